//! `${NAME}`, `${NAME:-default}` and `$${` in texts.

use std::ffi::OsString;

use super::Variable;
use crate::diagnostic::Diagnostic;
use crate::rule::Span;
use crate::rule::yaml::shortened;

/// The longest text with its variables replaced, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 8 << 10;

/// A text before and after.
pub(super) struct Expanded {
    /// With the values of variables.
    pub(super) value: String,
    /// With the names of variables, and their defaults where those are used.
    pub(super) shown: String,
}

/// Replaces variables in texts, and remembers which.
pub(super) struct Variables<'e> {
    environment: &'e dyn Fn(&str) -> Option<OsString>,
    pub(super) used: Vec<Variable>,
}

/// What stands between two places of a text.
struct Reference<'t> {
    name: &'t str,
    default: Option<&'t str>,
}

impl<'e> Variables<'e> {
    pub(super) fn new(environment: &'e dyn Fn(&str) -> Option<OsString>) -> Self {
        Variables {
            environment,
            used: Vec::new(),
        }
    }

    /// Replaces what is to be replaced in a text. All mistakes are pushed to `out`: None then.
    pub(super) fn expand(
        &mut self,
        text: &str,
        span: &Span,
        out: &mut Vec<Diagnostic>,
    ) -> Option<Expanded> {
        let mut expanded = Expanded {
            value: String::new(),
            shown: String::new(),
        };
        let mistakes = out.len();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, tail) = rest.split_at(at);
            if let Some(literal) = before.strip_suffix('$') {
                expanded.both(literal);
                expanded.both("${");
                rest = tail.get(2..).unwrap_or_default();
                continue;
            }
            expanded.both(before);
            let offset = text[..text.len() - tail.len()].chars().count();
            let Some(end) = tail.find('}') else {
                let place = span.within(offset, tail.chars().count());
                out.push(
                    place
                        .error("`${` has no `}`")
                        .with_hint("write `${NAME}`, or `$${` for `${` itself"),
                );
                return None;
            };
            let (reference, after) = tail.split_at(end + 1);
            let place = span.within(offset, reference.chars().count());
            match self.value(reference) {
                Ok((value, shown)) => {
                    expanded.value.push_str(&value);
                    expanded.shown.push_str(&shown);
                }
                Err((message, hint)) => out.push(place.error(message).with_hint(hint)),
            }
            rest = after;
            if expanded.value.len() > TEXT_BYTES_MAX {
                break;
            }
        }
        expanded.both(rest);
        if expanded.value.len() > TEXT_BYTES_MAX {
            let message = format!(
                "this text has more than {} KiB with its variables replaced",
                TEXT_BYTES_MAX >> 10
            );
            out.push(span.error(message).with_hint("write a shorter one"));
        }
        (out.len() == mistakes).then_some(expanded)
    }

    /// What `${…}` stands for, and how it is shown; or what is wrong with it and what to do.
    fn value(&mut self, reference: &str) -> Result<(String, String), (String, String)> {
        let Some(Reference { name, default }) = parsed(reference) else {
            let message = format!("`{}` names no variable", shortened(reference));
            let hint = "write `${NAME}` or `${NAME:-default}`, or `$${` for `${` itself";
            return Err((message, hint.to_owned()));
        };
        if default.is_some_and(|default| default.contains("${")) {
            let message = format!(
                "the default of `{}` holds another variable",
                shortened(name)
            );
            return Err((message, "write the default itself".to_owned()));
        }
        let found = (self.environment)(name);
        let default = default.filter(|_| found.as_ref().is_none_or(|value| value.is_empty()));
        if let Some(default) = default {
            return Ok((default.to_owned(), default.to_owned()));
        }
        let Some(value) = found else {
            let message = format!("the environment has no variable `{}`", shortened(name));
            let hint = format!("set it, or write `${{{}:-default}}`", shortened(name));
            return Err((message, hint));
        };
        let Ok(value) = value.into_string() else {
            let message = format!(
                "the value of the variable `{}` is not UTF-8",
                shortened(name)
            );
            return Err((message, "set it to a text".to_owned()));
        };
        if value.len() > TEXT_BYTES_MAX {
            let message = format!(
                "the value of the variable `{}` has more than {} KiB",
                shortened(name),
                TEXT_BYTES_MAX >> 10
            );
            return Err((message, "set it to a shorter text".to_owned()));
        }
        if self.used.iter().all(|variable| variable.name != name) {
            self.used.push(Variable {
                name: name.to_owned(),
                value: value.clone(),
            });
        }
        Ok((value, format!("${{{name}}}")))
    }
}

impl Expanded {
    fn both(&mut self, text: &str) {
        self.value.push_str(text);
        self.shown.push_str(text);
    }
}

/// The parts of `${NAME}` or `${NAME:-default}`.
fn parsed(reference: &str) -> Option<Reference<'_>> {
    let inner = reference.strip_prefix("${")?.strip_suffix('}')?;
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let mut characters = name.chars();
    let is_name = characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(Reference { name, default })
}
