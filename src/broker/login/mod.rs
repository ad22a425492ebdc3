//! Who a client is.

pub mod hash;
pub mod secret;
pub mod users;
