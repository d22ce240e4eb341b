//! The program as its users meet it: arguments, files, output, exit codes. What is tested stands in CONTRACT sections 1, 2, 4 and 5.

mod baseline;
mod bisect;
mod bisect_run;
mod exits;
mod formats;
mod histories;
mod inputs;
mod life;
mod place;
mod positions;
mod real;
mod rule_verbs;
mod sums;
mod stream_forms;
mod streams;
