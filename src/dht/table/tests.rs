//! The routing table beside a model.
