pub mod ports;
pub mod spec;

pub mod status;
