//! Load generator for foveola meshes.
fn main() {}
