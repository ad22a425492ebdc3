//! The bridge against a scripted server, with fakes for the queues and the local broker.

mod drain;
mod incoming;
mod leave;
mod link;
mod outgoing;
mod random;
mod sessions;
mod world;
