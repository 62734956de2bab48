//! The `adapt` command.

fn main() {}
