//! The pool on a virtual clock.
