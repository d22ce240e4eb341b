//! Random writes on a real server.
