//! The records of one space, page by page.

use bytes::Bytes;
use ensue::core::{Error, Portable, Record, RecordScan, Space};

/// The records of a space, a page at a time.
pub(crate) struct Pages<'a> {
    store: &'a dyn Portable,
    scan: RecordScan,
    page: std::vec::IntoIter<Record>,
    next: Option<Bytes>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(store: &'a dyn Portable, space: &Space) -> Self {
        let scan = RecordScan::all(space.clone());
        let next = Some(scan.from.clone());
        Self { store, scan, page: Vec::new().into_iter(), next }
    }

    pub(crate) async fn peek(&mut self) -> Result<Option<&Record>, Error> {
        while self.page.as_slice().is_empty() {
            let Some(from) = self.next.take() else { return Ok(None) };
            self.scan.from = from;
            let page = self.store.scan(self.scan.clone()).await?;
            (self.page, self.next) = (page.records.into_iter(), page.next);
        }
        Ok(self.page.as_slice().first())
    }

    pub(crate) fn pop(&mut self) -> Option<Record> {
        self.page.next()
    }

    pub(crate) async fn count(mut self) -> Result<u64, Error> {
        let mut count = 0;
        while self.peek().await?.is_some() {
            count += self.page.by_ref().count() as u64;
        }
        Ok(count)
    }
}
