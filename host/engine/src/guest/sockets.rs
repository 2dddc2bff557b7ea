//! Sockets that cannot be had: Python's standard library imports them whether or not a task has a use for them. None can be
//! made and no name be looked up, with `access-denied`, since nothing in the guest's context allows it.

use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::{sockets, sync};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use super::instance::HostState;

/// What is linked here.
pub const INTERFACES: [&str; 7] = [
    "wasi:sockets/instance-network",
    "wasi:sockets/network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/tcp",
    "wasi:sockets/udp-create-socket",
    "wasi:sockets/udp",
];

/// Links the interfaces of `wasi:sockets`.
pub fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    type T = HostState;

    sockets::instance_network::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    let network = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<T, WasiSockets>(linker, &network, T::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sync::sockets::tcp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sync::sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sync::sockets::udp::add_to_linker::<T, WasiSockets>(linker, T::sockets)
}
