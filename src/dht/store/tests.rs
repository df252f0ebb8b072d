//! The replica store beside a model.
