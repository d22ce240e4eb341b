//! The arguments of a mapping: known, foreign and unknown keys, what must be there and what may.

use super::read::{Reader, is_date, less, near, one_of};
use super::yaml::{Kind, Node, shortened};
use super::{Bounds, ColumnRef, Literal, Spanned, alias};
use crate::change::Decimal;
use crate::schema::value::parse_number;

/// `min` and `max`, each where it is given.
type Ends<T> = (Option<T>, Option<T>);

/// The form of a check, of `given:`, … : what it is called, what may stand in it, how it is written.
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [&'static str],
    pub(super) example: &'static str,
}

/// The arguments of a mapping under their own names.
pub(super) struct Fields<'n> {
    form: &'static Form,
    key: &'n Node,
    entries: Vec<(&'static str, &'n Node, &'n Node)>,
    /// What unknown keys probably stand for: those are not called missing as well.
    suspected: Vec<&'static str>,
    /// True when an unknown key may stand for anything.
    wild: bool,
    /// True when an unknown key was reported.
    pub(super) broken: bool,
}

impl<'n> Fields<'n> {
    /// Reads the keys of the mapping below `key`; unknown ones are reported, foreign ones translated.
    pub(super) fn open(
        reader: &mut Reader<'_>,
        form: &'static Form,
        key: &'n Node,
        value: &'n Node,
    ) -> Option<Self> {
        let Kind::Mapping(entries) = &value.kind else {
            let message = format!(
                "`{}` needs a mapping, found {}",
                form.name,
                value.describe()
            );
            return reader.wrong(value, message, format!("write `{}`", form.example));
        };
        let mut fields = Fields {
            form,
            key,
            entries: Vec::new(),
            suspected: Vec::new(),
            wild: value.broken,
            broken: value.broken,
        };
        for (name, value) in entries {
            fields.take(reader, name, value);
        }
        Some(fields)
    }

    fn take(&mut self, reader: &mut Reader<'_>, key: &'n Node, value: &'n Node) {
        let written = key.text().unwrap_or("");
        let own = self
            .form
            .arguments
            .iter()
            .find(|name| **name == written)
            .copied();
        let foreign = alias::argument(self.form.name, written)
            .filter(|name| self.form.arguments.contains(name));
        let Some(name) = own.or(foreign) else {
            self.broken = true;
            let nearest = near(written, self.form.arguments.iter().copied()).or_else(|| {
                near(
                    written,
                    alias::arguments(self.form.name).map(|(name, _)| name),
                )
                .and_then(|near| alias::argument(self.form.name, near))
            });
            self.suspected.extend(nearest);
            let advice = alias::argument_advice(written);
            self.wild |= nearest.is_none() && advice.is_none();
            let hint = advice
                .map(str::to_owned)
                .or_else(|| nearest.map(|near| format!("did you mean `{near}`?")));
            let offered = self
                .form
                .arguments
                .iter()
                .filter(|name| !super::kinds::FOREIGN.contains(name));
            let known: Vec<String> = offered.map(|name| format!("`{name}`")).collect();
            let hint = hint.unwrap_or_else(|| format!("it takes {}", one_of(&known)));
            reader.wrong::<()>(
                key,
                format!(
                    "`{}` has no argument `{}`",
                    self.form.name,
                    shortened(written)
                ),
                hint,
            );
            return;
        };
        if own.is_none() && !super::kinds::FOREIGN.contains(&name) {
            reader.note(key, written, name);
        }
        if let Some((_, first, _)) = self.entries.iter().find(|(taken, ..)| *taken == name) {
            self.broken = true;
            let message = format!(
                "`{name}` is given twice, as `{}` and as `{written}`",
                first.text().unwrap_or("")
            );
            reader.wrong::<()>(key, message, "keep one of them");
            return;
        }
        self.entries.push((name, key, value));
    }

    /// True when a reported key may have been meant to be this argument.
    fn is_suspected(&self, name: &str) -> bool {
        self.wild || self.suspected.contains(&name)
    }

    /// The value of an argument.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|(taken, ..)| *taken == name)
            .map(|(.., value)| *value)
    }

    /// The key of an argument as it was written.
    pub(super) fn written(&self, name: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|(taken, ..)| *taken == name)
            .map(|(_, key, _)| *key)
    }

    /// An argument that must be there.
    pub(super) fn required<'r, T>(
        &self,
        reader: &mut Reader<'r>,
        name: &str,
        read: impl FnOnce(&mut Reader<'r>, &Node) -> Option<T>,
    ) -> Option<T> {
        match self.optional(reader, name, read)? {
            Some(value) => Some(value),
            None if self.is_suspected(name) => None,
            None => reader.wrong(
                self.key,
                format!("`{}` needs `{name}`", self.form.name),
                format!("write `{}`", self.form.example),
            ),
        }
    }

    /// An argument that may be left out: `Some(None)` when it is, None when it is wrong.
    pub(super) fn optional<'r, T>(
        &self,
        reader: &mut Reader<'r>,
        name: &str,
        read: impl FnOnce(&mut Reader<'r>, &Node) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(name) {
            None => Some(None),
            Some(value) if value.is_null() => reader.wrong(
                value,
                format!("`{name}` has no value"),
                "give it one, or remove it",
            ),
            Some(value) => read(reader, value).map(Some),
        }
    }

    /// An argument, or what stands for it when it is left out.
    pub(super) fn or<'r, T>(
        &self,
        reader: &mut Reader<'r>,
        name: &str,
        default: T,
        read: impl FnOnce(&mut Reader<'r>, &Node) -> Option<T>,
    ) -> Option<T> {
        Some(self.optional(reader, name, read)?.unwrap_or(default))
    }

    /// What stands for an argument that was left out, at the place of the check.
    pub(super) fn standard(&self, reader: &Reader<'_>, text: &str) -> Spanned<String> {
        reader.spanned(self.key, text.to_owned())
    }

    /// `per:` or any other list of columns that may be left out.
    pub(super) fn columns_or_none(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
    ) -> Option<Vec<ColumnRef>> {
        self.or(reader, name, Vec::new(), Reader::columns)
    }

    /// One column under `column`, or several under `columns`.
    pub(super) fn column_or_columns(&self, reader: &mut Reader<'_>) -> Option<Vec<ColumnRef>> {
        match (self.get("column"), self.get("columns")) {
            (Some(_), Some(columns)) => reader.wrong(
                columns,
                format!("`{}` has both `column` and `columns`", self.form.name),
                "keep one of them",
            ),
            (None, Some(_)) => self.required(reader, "columns", Reader::columns),
            _ => self.required(reader, "column", Reader::columns),
        }
    }

    /// At least one of some arguments is there.
    pub(super) fn any_of(&self, reader: &mut Reader<'_>, names: &[&'static str]) -> Option<()> {
        if names
            .iter()
            .any(|name| self.get(name).is_some() || self.is_suspected(name))
        {
            return Some(());
        }
        let words: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        reader.wrong(
            self.key,
            format!("`{}` needs {}", self.form.name, one_of(&words)),
            format!("write `{}`", self.form.example),
        )
    }

    /// `min` and `max` of whole numbers, the right way round.
    pub(super) fn counts(&self, reader: &mut Reader<'_>) -> Option<Ends<u64>> {
        let min = self.optional(reader, "min", Reader::count);
        let max = self.optional(reader, "max", Reader::count);
        let (min, max) = (min?, max?);
        if let (Some(least), Some(most)) = (min, max)
            && least > most
        {
            return self.crossed(reader);
        }
        Some((min, max))
    }

    /// `min` and `max` of any comparable literal, the right way round where that can be told.
    pub(super) fn bounds(&self, reader: &mut Reader<'_>) -> Option<Bounds> {
        let min = self.optional(reader, "min", bound);
        let max = self.optional(reader, "max", bound);
        let bounds = Bounds {
            min: min?,
            max: max?,
        };
        if let (Some(min), Some(max)) = (&bounds.min, &bounds.max)
            && literal_less(&max.value, &min.value)
        {
            return self.crossed(reader);
        }
        Some(bounds)
    }

    /// `min` and `max` of numbers, as written.
    pub(super) fn decimals(&self, reader: &mut Reader<'_>) -> Option<Ends<Spanned<String>>> {
        let min = self.optional(reader, "min", Reader::decimal);
        let max = self.optional(reader, "max", Reader::decimal);
        let (min, max) = (min?, max?);
        if let (Some(least), Some(most)) = (&min, &max)
            && Decimal::parse(&most.value)
                .zip(Decimal::parse(&least.value))
                .and_then(|(most, least)| less(&most, &least))
                == Some(true)
        {
            return self.crossed(reader);
        }
        Some((min, max))
    }

    fn crossed<T>(&self, reader: &mut Reader<'_>) -> Option<T> {
        let node = self.written("min").unwrap_or(self.key);
        reader.wrong(
            node,
            "`min` is greater than `max`: nothing can hold",
            "exchange the two",
        )
    }
}

fn bound(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<Literal>> {
    let literal = reader.literal(node)?;
    match &literal.value {
        Literal::Bool(_) | Literal::Null => reader.wrong(
            node,
            format!("a bound cannot be {}", node.describe()),
            "write a number, a date or a text",
        ),
        Literal::Number(text) if parse_number(text).is_err() => reader.wrong(
            node,
            "this number has more digits than a numeric has",
            "write a smaller one",
        ),
        _ => Some(literal),
    }
}

/// True when both are numbers, or both dates or times of one form, and the first is the smaller.
fn literal_less(a: &Literal, b: &Literal) -> bool {
    match (a, b) {
        (Literal::Number(a), Literal::Number(b)) => {
            matches!((parse_number(a), parse_number(b)), (Ok(a), Ok(b)) if a < b)
        }
        (Literal::Text(a), Literal::Text(b)) => {
            a.len() == b.len() && is_date(a) && is_date(b) && a < b
        }
        _ => false,
    }
}
