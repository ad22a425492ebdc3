//! mqttsn
