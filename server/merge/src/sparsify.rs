//! What makes a task vector sparse before it is merged.

pub(crate) mod trim;
