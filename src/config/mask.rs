//! Takes the values of variables out of what is shown.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::{Config, Text};

/// Values of fewer characters are not looked for in texts: they are no secrets, and part of many words.
const VALUE_CHARS_MIN: usize = 4;

/// What stands for what.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Mask {
    /// Paths with variables replaced, and the same with their names.
    paths: Vec<(PathBuf, PathBuf)>,
    /// Values of variables and what stands for them, the longest first.
    values: Vec<(String, String)>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask").finish_non_exhaustive()
    }
}

impl Mask {
    /// The mask for the variables of a file.
    pub(super) fn of(config: &Config) -> Self {
        let texts = config
            .source
            .iter()
            .chain(&config.store)
            .chain(&config.rules);
        let path = |text: &Text| (PathBuf::from(text.value()), PathBuf::from(text.shown()));
        let is_hidden = |text: &&Text| text.value() != text.shown();
        let paths = texts.filter(is_hidden).map(path).collect();
        let mut values: Vec<(String, String)> = Vec::new();
        for variable in &config.variables {
            let escaped = crate::escape::terminal(&variable.value);
            for value in [variable.value.clone(), escaped] {
                // A value that ends with a newline is met without it.
                let value = value.trim().to_owned();
                if value.chars().count() >= VALUE_CHARS_MIN
                    && values.iter().all(|(known, _)| *known != value)
                {
                    values.push((value, format!("${{{}}}", variable.name)));
                }
            }
        }
        values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Mask { paths, values }
    }

    /// A text in which `${NAME}` stands for the values of variables that have at least four characters.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.values.iter().all(|(value, _)| !text.contains(value)) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            match self
                .values
                .iter()
                .find(|(value, _)| rest.starts_with(value))
            {
                Some((value, name)) => {
                    out.push_str(name);
                    rest = rest.get(value.len()..).unwrap_or_default();
                }
                None => {
                    out.push(c);
                    rest = rest.get(c.len_utf8()..).unwrap_or_default();
                }
            }
        }
        Cow::Owned(out)
    }

    /// A path in which the names of variables stand for their values: exactly, where it lies below a path of the file.
    pub fn path(&self, path: &Path) -> PathBuf {
        for (real, shown) in &self.paths {
            match path.strip_prefix(real) {
                Ok(below) if below == Path::new("") => return shown.clone(),
                Ok(below) => return shown.join(below),
                Err(_) => {}
            }
        }
        match path.to_str().map(|text| self.text(text)) {
            Some(Cow::Owned(masked)) => PathBuf::from(masked),
            _ => path.to_path_buf(),
        }
    }
}
