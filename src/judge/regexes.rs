//! `regexp_replace` with a limit: a few calls in a row can make a text of any length out of a short one, and the engine does not
//! count that memory.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use regex::{Captures, Regex};

use super::texts::{BATCH_BYTES_MAX, answer, too_long};

/// `regexp_replace(text, pattern, replacement [, flags])` of the engine: the first match, with the flag `g` all of them;
/// `\1` and `${1}` stand for groups.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RegexpReplace {
    signature: Signature,
}

impl Default for RegexpReplace {
    fn default() -> Self {
        let of = |count| TypeSignature::Exact(vec![DataType::Utf8; count]);
        RegexpReplace {
            signature: Signature::one_of(vec![of(3), of(4)], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for RegexpReplace {
    fn name(&self) -> &str {
        "regexp_replace"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        answer(&args.args, replaced(&arrays)?)
    }
}

fn replaced(arrays: &[ArrayRef]) -> Result<StringArray> {
    let columns: Vec<&StringArray> = arrays
        .iter()
        .map(|array| array.as_string::<i32>())
        .collect();
    let rows = columns.first().map_or(0, |column| column.len());
    let mut out = StringBuilder::new();
    let mut room = BATCH_BYTES_MAX;
    // Compiled expressions are large: one is kept, since it mostly is the same for all rows.
    let mut last: Option<Replacing> = None;
    for row in 0..rows {
        if columns.iter().any(|column| column.is_null(row)) {
            out.append_null();
            continue;
        }
        let value = |at: usize| columns.get(at).map_or("", |column| column.value(row));
        let wanted = [value(1), value(2), value(3)];
        let replacing = match last.take() {
            Some(same) if same.written == wanted => same,
            _ => Replacing::new(wanted)?,
        };
        let text = replacing.replace(value(0), room).ok_or_else(too_long)?;
        room -= text.len();
        out.append_value(&text);
        last = Some(replacing);
    }
    Ok(out.finish())
}

/// One pattern with its replacement.
struct Replacing {
    /// Pattern, replacement and flags as given.
    written: [String; 3],
    pattern: Regex,
    replacement: String,
    /// How many groups the replacement may name.
    groups: usize,
    all: bool,
}

impl Replacing {
    fn new([pattern, replacement, flags]: [&str; 3]) -> Result<Self> {
        let other: String = flags.chars().filter(|flag| *flag != 'g').collect();
        let flagged = match other.as_str() {
            "" => pattern.to_owned(),
            other => format!("(?{other}){pattern}"),
        };
        let wrong = |error| DataFusionError::External(Box::new(error));
        let expanded = with_braces(replacement);
        Ok(Replacing {
            written: [pattern, replacement, flags].map(str::to_owned),
            pattern: Regex::new(&flagged).map_err(wrong)?,
            groups: expanded.matches('$').count(),
            replacement: expanded,
            all: flags.contains('g'),
        })
    }

    /// The text with its matches replaced; None where it becomes longer than `room`.
    fn replace(&self, text: &str, room: usize) -> Option<String> {
        let most = if self.all { usize::MAX } else { 1 };
        let (mut out, mut end) = (String::new(), 0);
        for captures in self.pattern.captures_iter(text).take(most) {
            let found = captures.get(0)?;
            out.push_str(text.get(end..found.start())?);
            end = found.end();
            if out.len().saturating_add(self.longest(&captures)) > room {
                return None;
            }
            captures.expand(&self.replacement, &mut out);
        }
        out.push_str(text.get(end..)?);
        (out.len() <= room).then_some(out)
    }

    /// At most so many bytes stand for a match: no group is longer than it.
    fn longest(&self, captures: &Captures<'_>) -> usize {
        let found = captures.get(0).map_or(0, |found| found.len());
        let groups = self.groups.saturating_mul(found);
        self.replacement.len().saturating_add(groups)
    }
}

/// Groups as the expander of texts names them: `\\1` is `${1}`.
fn with_braces(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut rest = replacement;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let named = after.strip_prefix('\\').unwrap_or(after);
        let digits = named.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = named.split_at(digits);
        if digits == 0 {
            out.push('\\');
            rest = after;
        } else {
            out.push_str(&format!("${{{number}}}"));
            rest = behind;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn call(arguments: &[&str]) -> Result<Option<String>> {
        let array = |text: &&str| -> ArrayRef { Arc::new(StringArray::from(vec![*text])) };
        let arrays: Vec<ArrayRef> = arguments.iter().map(array).collect();
        let found = replaced(&arrays)?;
        Ok((!found.is_null(0)).then(|| found.value(0).to_owned()))
    }

    /// The engine's own function says what is right.
    fn engine(arguments: &[&str]) -> Option<String> {
        use datafusion::arrow::datatypes::Field;
        use datafusion::common::ScalarValue;
        use datafusion::common::config::ConfigOptions;
        let text = |text: &&str| ColumnarValue::Scalar(ScalarValue::from(*text));
        let field = |_: &&str| Arc::new(Field::new("x", DataType::Utf8, true));
        let arguments = ScalarFunctionArgs {
            args: arguments.iter().map(text).collect(),
            arg_fields: arguments.iter().map(field).collect(),
            number_rows: 1,
            return_field: Arc::new(Field::new("x", DataType::Utf8, true)),
            config_options: Arc::new(ConfigOptions::new()),
        };
        let function = datafusion::functions::regex::regexp_replace();
        match function.invoke_with_args(arguments).ok()? {
            ColumnarValue::Scalar(ScalarValue::Utf8(found)) => found,
            other => panic!("no text: {other:?}"),
        }
    }

    #[test]
    fn it_answers_as_the_engine_does() {
        for arguments in [
            &["foobarbequebaz", "(bar)(beque)", r"\2"] as &[&str],
            &["aBc", "(b|d)", r"Ab\1a", "i"],
            &["xyxyx", "x", "[${0}]", "g"],
            &["xyxyx", "X", r"[\0]", "gi"],
            &["xyxyx", "x", r"[\\0]\\\", "g"],
            &["xyxyx", "", "-", "g"],
            &["größe", "ö|ß", "$1a$$", "g"],
            &["a\nb", "^.", "<$0>", "gm"],
            &["abc", "(?<one>b)", "[$one]"],
            &[
                "https://www.example.org/a/b",
                "^https?://(?:www\\.)?([^/]+)/.*$",
                r"\1",
            ],
            &["abc", "z", "y"],
            &["", "", "y"],
        ] {
            let own = call(arguments).expect("short texts");
            assert_eq!(own, engine(arguments), "{arguments:?}");
            assert!(own.is_some(), "{arguments:?}");
        }
        assert!(call(&["a", "(", "b"]).is_err());
    }

    #[test]
    fn a_long_text_is_refused_before_it_is_made() {
        let thousand = "a".repeat(1_000);
        let million = "a".repeat(1_000_000);
        let groups = "$0".repeat(1_000);
        for (text, pattern, replacement) in [
            (million.as_str(), "a", thousand.as_str()),
            (million.as_str(), "a*", groups.as_str()),
            (million.as_str(), "", thousand.as_str()),
        ] {
            let refused = call(&[text, pattern, replacement, "g"]);
            assert!(
                matches!(refused, Err(DataFusionError::ResourcesExhausted(_))),
                "{pattern} {replacement:.20}"
            );
        }
        // One match of many is short.
        let once = call(&[&million, "a", &thousand]).expect("two millions of bytes");
        assert_eq!(once.map(|text| text.len()), Some(1_000_999));
    }
}
