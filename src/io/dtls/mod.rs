//! DTLS 1.2 and 1.3 on UDP links: the library `dimpl` on *ring*. It has no socket and no clock, like our own cores.
//!
//! An association is what DTLS calls a connection: keys shared with one address. Their number is bounded, and so is
//! that of handshakes on their way. Whoever has not shown by a cookie that it gets what is sent to its address is
//! sent less than it sent itself, and gives way to the next.

mod association;
mod crypto;
mod identity;
mod keys;
mod table;
#[cfg(test)]
mod tests;

pub use identity::DtlsIdentity;
pub(super) use table::{Associations, Event};
