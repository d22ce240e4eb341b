//! The program as its users meet it: arguments, files, output, exit codes. What is tested stands in CONTRACT sections 1, 2, 4 and 5.

mod alert;
mod arrays;
mod baseline;
mod bisect;
mod bisect_run;
mod config;
mod diff;
mod dumps;
mod evidence;
mod exits;
mod files;
mod formats;
mod gate;
mod histories;
mod incident;
mod inputs;
mod life;
mod next;
mod numbers;
mod place;
mod positions;
#[path = "../support/postgres.rs"]
mod postgres;
mod quick;
mod real;
mod rule_verbs;
mod sql;
mod sql_limits;
mod store;
mod store_damage;
mod store_life;
mod stream_forms;
mod streams;
mod sums;
