//! Business ids: text that can be the key of a stream, and types that cannot be mixed up.
//!
//! The rule is checked where an id is made, in a program or in a document, so a service never meets a wrong one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

const ID_BYTES_MAX: usize = 64;

/// A text that is not an id. The message names the field it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotAnId {
    field: &'static str,
    text: String,
    reason: &'static str,
}

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, text, reason } = self;
        write!(f, "`{text}` is not a valid {field}: {reason}")
    }
}

impl std::error::Error for NotAnId {}

fn check(field: &'static str, text: &str) -> Result<SmolStr, NotAnId> {
    let reason = if text.is_empty() {
        "it is empty"
    } else if text.len() > ID_BYTES_MAX {
        "it has more than 64 bytes"
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        "only visible ASCII without spaces and `/` is allowed"
    } else {
        return Ok(SmolStr::new(text));
    };
    let text = text.chars().take(ID_BYTES_MAX).flat_map(char::escape_debug).collect();
    Err(NotAnId { field, text, reason })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks the rule of ids.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NotAnId> {
                check($field, text.as_ref()).map(Self)
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id of the `number`-th thing of a kind, such as `PAY-7`.
            pub fn numbered(prefix: &'static str, number: impl fmt::Display) -> Self {
                Self::new(format!("{prefix}-{number}")).expect("a short prefix and a number are an id")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = SmolStr::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// An order, such as `ORD-5001`: the key of everything that happens to it.
    OrderId, "order_id"
);
id!(
    /// A customer, such as `CUST-1001`.
    CustomerId, "customer_id"
);
id!(
    /// An article in the warehouse, such as `WIDGET-1`.
    Sku, "sku"
);
id!(
    /// What the payment provider calls a charge, such as `PAY-7`.
    PaymentId, "payment_id"
);
id!(
    /// What the warehouse calls a reservation, such as `RES-7`.
    ReservationId, "reservation_id"
);
id!(
    /// What the carrier calls a shipment, such as `SHP-7`.
    ShipmentId, "shipment_id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_id_is_quoted_with_its_field_and_reason() {
        for (text, reason) in [
            ("", "`` is not a valid order_id: it is empty"),
            ("Order/1", "without spaces and `/`"),
            ("ORD 1", "without spaces"),
            ("ORD\n1", "`ORD\\n1` is not a valid order_id"),
            ("ÖRD-1", "visible ASCII"),
        ] {
            let error = OrderId::new(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let long = Sku::new("x".repeat(10_000)).expect_err("10 kB");
        assert!(long.to_string().contains("more than 64 bytes"), "{long}");
        assert!(long.to_string().len() < 150, "the whole text is not repeated: {long}");
    }

    #[test]
    fn a_document_with_an_empty_id_is_refused() {
        let error = serde_json::from_str::<CustomerId>("\"\"").expect_err("empty").to_string();
        assert!(error.contains("customer_id: it is empty"), "{error}");
        let id: CustomerId = serde_json::from_str("\"CUST-1001\"").expect("an id");
        assert_eq!(serde_json::to_string(&id).expect("text"), "\"CUST-1001\"");
    }
}
