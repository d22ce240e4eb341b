//! The report of an incident as one HTML file: it needs no script, no network and no other file, and is well-formed XML as well.
//!
//! Row data is hostile (invariant 12). Every text passes [`shown_cut`](super::shown_cut), which leaves no character that could turn the
//! direction of a line and nothing that XML does not know, and the template escapes it for HTML wherever it stands.

mod graph;
mod timeline;
mod view;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::evidence::Whole;

const NAME: &str = "incident.html";
const TEMPLATE: &str = include_str!("incident.html");

/// The report of an incident.
///
/// # Panics
/// Never on data: the template is part of the program.
pub(super) fn render(whole: &Whole<'_>) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
        .add_template(NAME, TEMPLATE)
        .expect("the template is part of the program");
    let template = environment.get_template(NAME);
    let template = template.expect("it was added above");
    template
        .render(Serde(view::of(whole)))
        .expect("the view has all that the template reads")
}
