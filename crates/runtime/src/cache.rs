//! A cache in front of read models. What a projection changes is dropped after the commit that changed it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ensue_core::Error;

/// Values by name, such as `orders:customer:CUST-3`. Cheap to clone; clones share the content.
///
/// Concurrent loads of one name run once. A load that races with an invalidation may leave the older value until the
/// next one; [`Cache::TTL`] bounds how long. Where processes share a store, the one that projects invalidates its own
/// cache; in the others the same bound holds.
#[derive(Clone)]
pub struct Cache<V> {
    values: moka::future::Cache<String, V>,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// No value is older than this.
    pub const TTL: Duration = Duration::from_mins(5);

    /// Holds at most so many values.
    pub fn new(values_max: u64) -> Self {
        Self {
            values: moka::future::Cache::builder().max_capacity(values_max).time_to_live(Self::TTL).build(),
        }
    }

    /// The value under a name; loads it if it is not there. An error is not kept.
    pub async fn get_or_load<F>(&self, name: &str, load: F) -> Result<V, Error>
    where
        F: Future<Output = Result<V, Error>>,
    {
        let loaded = self.values.try_get_with_by_ref(name, load).await;
        loaded.map_err(|error: Arc<Error>| (*error).clone())
    }

    /// Whether there is a value under this name, without loading it.
    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

/// Something that can drop a value by name; what a projection is given.
pub(crate) trait Invalidate: Send + Sync {
    fn invalidate(&self, name: String) -> ensue_core::BoxFuture<'static, ()>;
}

impl<V: Clone + Send + Sync + 'static> Invalidate for Cache<V> {
    fn invalidate(&self, name: String) -> ensue_core::BoxFuture<'static, ()> {
        let values = self.values.clone();
        Box::pin(async move { values.invalidate(&name).await })
    }
}
