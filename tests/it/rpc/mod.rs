//! Services: offered, found, called, taken back.

mod calls;
