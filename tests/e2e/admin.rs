//! The control socket and the status page: what they show, who may do what, and that nobody suffers from them.

mod doors;
