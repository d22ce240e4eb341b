//! Functions that rules have beside DataFusion's own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::rule::Format;

/// All of them.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(HasFormat::default())),
        Arc::new(ScalarUDF::from(super::texts::Replace::default())),
        Arc::new(ScalarUDF::from(super::regexes::RegexpReplace::default())),
    ]
}

/// `has_format(value, 'email')`: whether a text has a known format; NULL for NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct HasFormat {
    signature: Signature,
}

impl Default for HasFormat {
    fn default() -> Self {
        HasFormat {
            signature: Signature::exact(
                vec![DataType::Utf8, DataType::Utf8],
                Volatility::Immutable,
            ),
        }
    }
}

impl ScalarUDFImpl for HasFormat {
    fn name(&self) -> &str {
        "has_format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [values, names] = arrays.as_slice() else {
            return Err(DataFusionError::Execution(
                "has_format takes a text and the name of a format".into(),
            ));
        };
        let (values, names) = (values.as_string::<i32>(), names.as_string::<i32>());
        let mut out = Vec::with_capacity(values.len());
        for (value, name) in values.iter().zip(names.iter()) {
            let (Some(value), Some(name)) = (value, name) else {
                out.push(None);
                continue;
            };
            let format = Format::ALL
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, format)| *format);
            let format = format.ok_or_else(|| {
                DataFusionError::Execution(format!("there is no format `{name}`"))
            })?;
            out.push(Some(has_format(value, format)));
        }
        let array: ArrayRef = Arc::new(BooleanArray::from(out));
        Ok(ColumnarValue::Array(array))
    }
}

fn has_format(value: &str, format: Format) -> bool {
    match format {
        Format::Email => is_email(value),
        Format::Uuid => is_uuid(value),
        Format::Url => {
            url::Url::parse(value).is_ok_and(|url| url.has_host())
                && !value.contains(char::is_whitespace)
        }
        Format::Ipv4 => value.parse::<Ipv4Addr>().is_ok(),
        Format::Ipv6 => value.parse::<Ipv6Addr>().is_ok(),
        Format::IsoDate => is_date(value),
        Format::IsoDatetime => is_datetime(value),
        Format::IsoTime => is_time(value),
        Format::Json => serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok(),
        Format::Integer => is_digits(value.strip_prefix(['-', '+']).unwrap_or(value)),
        Format::Decimal => {
            let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
            match digits.split_once('.') {
                Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
                None => is_digits(digits),
            }
        }
        Format::CurrencyCode => value.len() == 3 && value.bytes().all(|b| b.is_ascii_uppercase()),
        Format::CountryCode => value.len() == 2 && value.bytes().all(|b| b.is_ascii_uppercase()),
        Format::PhoneE164 => value.strip_prefix('+').is_some_and(|digits| {
            is_digits(digits) && !digits.starts_with('0') && (7..=15).contains(&digits.len())
        }),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The HTML standard's idea of an address, and a host with a dot (<https://html.spec.whatwg.org/#email-state-(type=email)>).
fn is_email(value: &str) -> bool {
    let Some((local, host)) = value.rsplit_once('@') else {
        return false;
    };
    let local_ok = !local.is_empty()
        && local.len() <= 64
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local
            .chars()
            .all(|c| c.is_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c));
    let labels: Vec<&str> = host.split('.').collect();
    let label_ok = |label: &&str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    local_ok && labels.len() >= 2 && host.len() <= 253 && labels.iter().all(label_ok)
}

fn is_uuid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_date(value: &str) -> bool {
    value.len() == 10 && chrono::NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok()
}

fn is_time(value: &str) -> bool {
    let shape = value.len() >= 8 && value.is_char_boundary(8);
    shape && chrono::NaiveTime::parse_from_str(value, "%H:%M:%S%.f").is_ok()
}

fn is_datetime(value: &str) -> bool {
    chrono::DateTime::parse_from_rfc3339(value).is_ok()
        || (value.len() >= 19
            && chrono::NaiveDateTime::parse_from_str(value, "%Y-%m-%dT%H:%M:%S%.f").is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_know_right_from_wrong() {
        let cases = [
            (Format::Email, "ada@example.org", "ada@example"),
            (
                Format::Email,
                "o'neil+shop@mail.example.co",
                "a b@example.org",
            ),
            (Format::Email, "zoë@exämple.org", "@example.org"),
            (
                Format::Uuid,
                "3F2504E0-4F89-11D3-9A0C-0305E82C3301",
                "3F2504E04F8911D39A0C0305E82C3301",
            ),
            (Format::Url, "https://example.org/a?b=c", "example.org"),
            (Format::Url, "postgres://db/x", "mailto:ada@example.org"),
            (Format::Ipv4, "10.0.0.1", "10.0.0.256"),
            (Format::Ipv6, "2001:db8::1", "2001:db8::g"),
            (Format::IsoDate, "2024-02-29", "2023-02-29"),
            (
                Format::IsoDatetime,
                "2026-03-12T16:03:51.221Z",
                "2026-03-12 16:03",
            ),
            (Format::IsoTime, "16:03:51", "24:03:51"),
            (Format::Json, "{\"a\": [1]}", "{a: 1}"),
            (Format::Integer, "-042", "4.2"),
            (Format::Decimal, "4.20", "4."),
            (Format::CurrencyCode, "EUR", "eur"),
            (Format::CountryCode, "DE", "DEU"),
            (Format::PhoneE164, "+4930123456", "030123456"),
        ];
        for (format, good, bad) in cases {
            assert!(
                has_format(good, format),
                "{} should accept {good}",
                format.as_str()
            );
            assert!(
                !has_format(bad, format),
                "{} should refuse {bad}",
                format.as_str()
            );
        }
    }
}
