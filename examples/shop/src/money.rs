//! Money: whole cents, exact from the document to the ledger and back.
//!
//! Not a currency and not a float: a JSON number is read from its text, so `59.98` is 5,998 cents and `1.005` is refused
//! instead of rounded. Reading and writing go through the text of the number, which only JSON has; serde's buffering of
//! untagged and internally tagged enums loses that text, and money inside of one is refused, never guessed.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::ser::{self, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const CENTS_PER_UNIT: u64 = 100;

/// An amount in cents. Negative amounts exist as differences; whether one is allowed is a rule of each document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money {
    cents: i64,
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self { cents: 0 };

    /// An amount from cents.
    pub const fn from_cents(cents: i64) -> Self {
        Self { cents }
    }

    /// The amount in cents.
    pub const fn cents(self) -> i64 {
        self.cents
    }

    /// The sum, or `None` where it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.cents.checked_add(other.cents).map(Self::from_cents)
    }

    /// The sum, or the largest amount where it does not fit.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self::from_cents(self.cents.saturating_add(other.cents))
    }

    /// The difference, or `None` where it does not fit.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.cents.checked_sub(other.cents).map(Self::from_cents)
    }

    /// So many times the amount, or `None` where it does not fit.
    #[must_use]
    pub fn checked_mul(self, times: u32) -> Option<Self> {
        self.cents.checked_mul(i64::from(times)).map(Self::from_cents)
    }

    /// The sum of all, or `None` where it does not fit.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// The amount as JSON and other programs read it: `-1204.20`.
    fn plain(self) -> String {
        let (sign, units, cents) = self.parts();
        format!("{sign}{units}.{cents:02}")
    }

    fn parts(self) -> (&'static str, u64, u64) {
        let cents = self.cents.unsigned_abs();
        (if self.cents < 0 { "-" } else { "" }, cents / CENTS_PER_UNIT, cents % CENTS_PER_UNIT)
    }
}

/// Writes thousands separators: `1,204.20`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, units, cents) = self.parts();
        f.pad(&format!("{sign}{}.{cents:02}", grouped(units)))
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an amount of money.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotMoney {
    text: String,
    reason: &'static str,
}

impl fmt::Display for NotMoney {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not an amount of money: {}", self.text, self.reason)
    }
}

impl std::error::Error for NotMoney {}

impl FromStr for Money {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        parse(text).map_err(|reason| NotMoney { text: text.chars().take(60).collect(), reason })
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        if text.starts_with('"') {
            let text: String = serde_json::from_str(text).map_err(de::Error::custom)?;
            text.parse().map_err(de::Error::custom)
        } else {
            text.parse().map_err(de::Error::custom)
        }
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.plain()).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

/// Groups the digits of a number by thousands: `1,204`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn parse(text: &str) -> Result<Money, &'static str> {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (units, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    if !is_digits(units) || !is_digits(fraction) {
        return Err("write digits with a point before the cents, such as 59.98");
    }
    if fraction.len() > 2 {
        return Err("it has more than two decimals");
    }
    // "5" after the point is fifty cents, "05" is five.
    let cents = format!("{units}{fraction:0<2}");
    let cents: i64 = cents.parse().map_err(|_| "it is too large")?;
    Ok(Money::from_cents(if negative { -cents } else { cents }))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Basket {
        prices: Vec<Money>,
        payment: Option<Payment>,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    #[serde(rename_all = "snake_case")]
    enum Payment {
        Card { amount: Money },
        Cash(Money),
    }

    #[test]
    fn a_number_is_read_from_its_text_and_not_from_a_float() {
        for (text, cents) in [
            ("59.98", 5_998),
            ("0.1", 10),
            ("0.29", 29),
            ("1.10", 110),
            ("5", 500),
            ("0", 0),
            ("-0.05", -5),
            ("\"1204.20\"", 120_420),
            // Beyond 2^53 cents, where a float no longer tells neighbours apart.
            ("92233720368547758.07", i64::MAX),
            ("90071992547409.93", 9_007_199_254_740_993),
        ] {
            let money: Money = serde_json::from_str(text).expect(text);
            assert_eq!(money.cents(), cents, "{text}");
        }
    }

    #[test]
    fn what_is_not_exact_in_cents_is_refused_by_its_own_text() {
        for (text, reason) in [
            ("1.005", "`1.005` is not an amount of money: it has more than two decimals"),
            ("59.9800000000000000001", "more than two decimals"),
            ("59.980", "more than two decimals"),
            ("1e2", "`1e2` is not an amount of money: write digits"),
            ("92233720368547758.08", "too large"),
            ("\"12,50\"", "`12,50` is not"),
            ("\"\"", "write digits"),
            ("\".5\"", "write digits"),
            ("\"5.\"", "write digits"),
            ("\"+5\"", "write digits"),
            ("\"٣\"", "write digits"),
            ("null", "`null` is not an amount of money"),
            ("[1]", "`[1]` is not an amount of money"),
        ] {
            let error = serde_json::from_str::<Money>(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn money_survives_inside_structs_enums_and_lists() {
        let text = r#"{"prices":[59.98,"0.02",7],"payment":{"card":{"amount":66.10}}}"#;
        let basket: Basket = serde_json::from_str(text).expect("a basket");
        assert_eq!(basket.prices.iter().map(|price| price.cents()).collect::<Vec<_>>(), [5_998, 2, 700]);
        assert_eq!(basket.payment, Some(Payment::Card { amount: Money::from_cents(6_610) }));
        let written = serde_json::to_string(&basket).expect("plain data");
        assert_eq!(written, r#"{"prices":[59.98,0.02,7.00],"payment":{"card":{"amount":66.10}}}"#);
        assert_eq!(serde_json::from_str::<Basket>(&written).expect("what was written"), basket);
        let cash: Basket =
            serde_json::from_slice(br#"{"prices":[],"payment":{"cash":0.30}}"#).expect("bytes");
        assert_eq!(cash.payment, Some(Payment::Cash(Money::from_cents(30))));
    }

    #[test]
    fn money_passes_through_a_json_tree_and_a_reader() {
        let tree = serde_json::to_value(Money::from_cents(5_998)).expect("a number");
        assert_eq!(tree, serde_json::json!(59.98));
        assert_eq!(serde_json::from_value::<Money>(tree).expect("the same").cents(), 5_998);
        assert_eq!(serde_json::from_reader::<_, Money>(&b"59.98"[..]).expect("a reader").cents(), 5_998);
    }

    #[test]
    fn money_inside_a_buffered_enum_is_refused_instead_of_rounded() {
        #[derive(Deserialize, Debug)]
        #[serde(untagged)]
        #[expect(dead_code, reason = "only its failure to decode matters")]
        enum Either {
            Amount(Money),
        }
        serde_json::from_str::<Either>("1.005").expect_err("the text of the number is lost");
        serde_json::from_str::<Either>("59.98").expect_err("the text of the number is lost");
    }

    #[test]
    fn thousands_are_separated_for_people() {
        for (cents, text) in [
            (0, "0.00"),
            (5, "0.05"),
            (-5, "-0.05"),
            (99_999, "999.99"),
            (120_420, "1,204.20"),
            (-108_424, "-1,084.24"),
            (12_345_678_900, "123,456,789.00"),
            (i64::MIN, "-92,233,720,368,547,758.08"),
        ] {
            assert_eq!(Money::from_cents(cents).to_string(), text);
        }
        assert_eq!(format!("{:>8}", Money::from_cents(5_998)), "   59.98");
    }

    #[test]
    fn arithmetic_reports_what_does_not_fit() {
        let largest = Money::from_cents(i64::MAX);
        assert_eq!(largest.checked_add(Money::from_cents(1)), None);
        assert_eq!(largest.checked_mul(2), None);
        assert_eq!(Money::from_cents(i64::MIN).checked_sub(Money::from_cents(1)), None);
        assert_eq!(Money::from_cents(2_999).checked_mul(2), Some(Money::from_cents(5_998)));
        assert_eq!(
            Money::checked_sum([largest, Money::from_cents(-1)]),
            Some(Money::from_cents(i64::MAX - 1))
        );
        assert_eq!(Money::checked_sum([largest, largest]), None);
    }
}
