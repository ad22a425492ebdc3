//! The gateway as its users meet it: real processes, real peers, real sockets, real death.

mod harness;

mod access;
mod admin;
mod backup;
mod bridge;
mod clouds;
mod cluster;
mod command_line_clients;
mod delivery;
mod discovery;
mod drill;
mod dtls;
mod endurance;
mod fleet;
mod flood;
mod flow_control;
mod full_disk;
mod hostile;
mod import;
mod lifecycle;
mod listeners;
mod login;
mod mqttjs;
mod network;
mod noise;
mod paho;
mod radio;
mod reload;
mod rumqttc_clients;
mod rumqttd;
mod sessions;
mod sn_clients;
mod strictness;
mod sys_topics;
