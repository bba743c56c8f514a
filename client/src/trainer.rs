//! Ways to fine-tune a base: any command of the user, or the trainer that comes with the program.

pub mod builtin;
