//! Both ends, every order.
