//! `layerpin check` from outside: whole outputs, and what files, registries and terminals do to it.
//!
//! [`tree`] sets up files and runs the program on them.

mod explain;
mod facts;
mod files;
mod forms;
mod places;
mod registry;
mod sarif;
mod terminal;
mod text;
mod tree;
