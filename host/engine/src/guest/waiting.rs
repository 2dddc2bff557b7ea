//! Waiting of a guest in a host call, which no epoch cuts short: it ends with the time of the call of the logic at the latest,
//! and that call with it.

use tokio::time::{Instant, timeout_at};
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime::{StoreContextMut, Trap};
use wasmtime_wasi::p2::bindings::io::poll::{Host as _, HostPollable as _};
use wasmtime_wasi::p2::bindings::io::streams::{Host as _, HostInputStream as _, HostOutputStream as _, StreamError};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamResult};
use wasmtime_wasi::runtime::in_tokio;

use super::instance::HostState;

type Input = Resource<DynInputStream>;
type Output = Resource<DynOutputStream>;
type Caller<'a> = StoreContextMut<'a, HostState>;

/// Links what waits anew, over what waits for as long as it takes.
pub fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.func_wrap("poll", |mut caller: Caller<'_>, (pollables,): (Vec<Resource<DynPollable>>,)| {
        let HostState { resources, outbound, .. } = caller.data_mut();
        Ok((wait(outbound.until, resources.poll(pollables))??,))
    })?;
    poll.func_wrap("[method]pollable.block", |mut caller: Caller<'_>, (pollable,): (Resource<DynPollable>,)| {
        let HostState { resources, outbound, .. } = caller.data_mut();
        wait(outbound.until, resources.block(pollable))?
    })?;
    let mut streams = linker.instance("wasi:io/streams@0.2.12")?;
    streams.func_wrap("[method]input-stream.blocking-read", |caller: Caller<'_>, (from, bytes): (Input, u64)| {
        wait_stream(caller, async |table| table.blocking_read(from, bytes).await)
    })?;
    streams.func_wrap("[method]input-stream.blocking-skip", |caller: Caller<'_>, (from, bytes): (Input, u64)| {
        wait_stream(caller, async |table| table.blocking_skip(from, bytes).await)
    })?;
    streams.func_wrap(
        "[method]output-stream.blocking-write-and-flush",
        |caller: Caller<'_>, (to, bytes): (Output, Vec<u8>)| {
            wait_stream(caller, async |table| table.blocking_write_and_flush(to, bytes).await)
        },
    )?;
    streams.func_wrap(
        "[method]output-stream.blocking-write-zeroes-and-flush",
        |caller: Caller<'_>, (to, bytes): (Output, u64)| {
            wait_stream(caller, async |table| table.blocking_write_zeroes_and_flush(to, bytes).await)
        },
    )?;
    streams.func_wrap("[method]output-stream.blocking-flush", |caller: Caller<'_>, (to,): (Output,)| {
        wait_stream(caller, async |table| table.blocking_flush(to).await)
    })?;
    streams.func_wrap(
        "[method]output-stream.blocking-splice",
        |caller: Caller<'_>, (to, from, bytes): (Output, Input, u64)| {
            wait_stream(caller, async |table| table.blocking_splice(to, from, bytes).await)
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Waits, and no longer than until then. What comes later than that has come too late.
fn wait<T>(until: Instant, waited: impl Future<Output = T>) -> wasmtime::Result<T> {
    let ended = in_tokio(async { timeout_at(until, waited).await });
    ended.ok().filter(|_| Instant::now() < until).ok_or(Trap::Interrupt.into())
}

/// Waits for a stream, whose errors are answers.
fn wait_stream<T>(
    mut caller: Caller<'_>,
    waited: impl AsyncFnOnce(&mut ResourceTable) -> StreamResult<T>,
) -> wasmtime::Result<(Result<T, StreamError>,)> {
    let HostState { resources, outbound, .. } = caller.data_mut();
    let answer = match wait(outbound.until, waited(resources))? {
        Ok(answer) => Ok(answer),
        Err(error) => Err(resources.convert_stream_error(error)?),
    };
    Ok((answer,))
}
