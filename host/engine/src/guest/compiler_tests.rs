#![cfg(target_os = "linux")]

use std::fs::File;

use super::*;
use crate::guest::{GuestRuntime, Room};

const LIMITS: CompileLimits = CompileLimits {
    child: ChildLimits { memory_bytes_max: 256 << 20, cpu_s_max: 3 },
    s_max: 60,
    code_bytes_max: 1 << 20,
};

/// A child that does what a script says.
fn script(text: &str, limits: CompileLimits) -> ChildCompiler {
    let args = ["-c", text].map(OsString::from).to_vec();
    ChildCompiler::new("/bin/sh", args, limits).variable("PATH", "/usr/bin:/bin")
}

/// What comes of a child that does this, in the words of the error.
fn check(text: &str, limits: CompileLimits, expected: &str) {
    let said = script(text, limits).compile(b"component", None).unwrap_err().to_string();
    assert!(said.contains(expected), "{text}: {said}");
}

#[test]
fn how_a_child_ends_is_told() {
    for (text, expected) in [
        ("echo 'bad\n magic' >&2; exit 3", "not a WebAssembly component: bad magic"),
        ("exit 4", "needs more than 256 MiB of memory"),
        ("echo 'memory allocation of 8 bytes failed' >&2; kill -ABRT $$", "needs more than 256 MiB of memory"),
        ("kill -XCPU $$", "takes more than 3 s of a core"),
        ("exec cat /dev/zero", "more than 1 MiB of code"),
        ("kill -SEGV $$", "crashed the compiler (signal: 11 (SIGSEGV)"),
        ("kill -KILL $$", "crashed the compiler (signal: 9 (SIGKILL))"),
        ("echo 'it panicked' >&2; exit 101", "it panicked"),
        ("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 3", "not a WebAssembly component: xxx"),
        ("echo 'limiting the compiler: no' >&2; exit 1", "no compiler could be run for the component: limiting"),
    ] {
        check(text, LIMITS, expected);
    }
    check("exec sleep 600", CompileLimits { s_max: 1, ..LIMITS }, "takes more than 1 s, the most");
}

#[test]
fn a_child_is_given_all_of_the_component_and_no_more() {
    let long = vec![7; 1 << 20];
    assert_eq!(script("exec cat", LIMITS).compile(&long, None).unwrap(), long);
    // It answers before it has taken anything, and takes nothing.
    assert_eq!(script("echo code", LIMITS).compile(&long, None).unwrap(), b"code\n");
    let variables = script("exec env", LIMITS).compile(b"", None).unwrap();
    let variables = String::from_utf8(variables).unwrap();
    assert!(std::env::vars_os().count() > 4, "there is nothing that it must not have");
    assert!(variables.lines().all(|line| ["PATH=", "PWD=", "_=", THREADS].iter().any(|known| line.starts_with(known))));
    // Whoever started this process may have left it files that all of its children have.
    let file = tempfile::NamedTempFile::new().unwrap();
    let files = script("exec ls -l /proc/self/fd", LIMITS).compile(b"", None).unwrap();
    let name = file.path().file_name().unwrap().to_str().unwrap();
    assert!(!String::from_utf8(files).unwrap().contains(name), "it has a file of this process");
}

#[test]
fn so_many_children_and_no_more() {
    let places = Places::default();
    let mut held: Vec<_> = (0..COMPILING_MAX).map(|_| places.take(None).unwrap()).collect();
    assert!(places.take(Some(Duration::ZERO)).is_none());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| places.take(None).is_some());
        held.pop();
        assert!(waiting.join().unwrap());
    });
    assert!(places.take(Some(Duration::ZERO)).is_some());
}

/// What [`this`] runs, with stdout as the file 3, since a test's is the test's.
const SELF: &str = r#"exec "$0" guest::compiler::tests::child --exact --ignored 3>&1 >/dev/null"#;
/// Marks a process as a child, and says how much memory it may have.
const MEMORY: &str = "PELTON_TEST_COMPILER_MEMORY";

/// This program as a child, which compiles.
fn this(limits: CompileLimits) -> ChildCompiler {
    let args = ["-c".into(), SELF.into(), std::env::current_exe().unwrap().into_os_string()].to_vec();
    ChildCompiler::new("/bin/sh", args, limits).variable(MEMORY, limits.child.memory_bytes_max.to_string())
}

#[test]
#[ignore = "another test runs it, in a process of its own"]
fn child() {
    let Ok(memory) = std::env::var(MEMORY) else { return };
    let limits = ChildLimits { memory_bytes_max: memory.parse().unwrap(), ..LIMITS.child };
    let code = match child::serve(limits, io::stdin(), File::create("/proc/self/fd/3").unwrap()) {
        Ok(()) => 0,
        Err(fault) => {
            // A test's stderr is the test's too.
            writeln!(File::create("/proc/self/fd/2").unwrap(), "{fault}").unwrap();
            fault.exit_code()
        }
    };
    std::process::exit(code.into());
}

/// A component whose compiler keeps a value for each local variable in each of so many loops.
fn bomb(loops: usize, locals: usize) -> Vec<u8> {
    let uses: String = (0..locals).map(|local| format!("local.get {local} i64.eqz br_if 0 ")).collect();
    let (begin, end, locals) = ("loop ".repeat(loops), "end ".repeat(loops), "i64 ".repeat(locals));
    wat::parse_str(format!("(component (core module (func (local {locals}) {begin} {uses} {end})))")).unwrap()
}

#[test]
fn a_bomb_goes_off_in_its_child() {
    let error = this(LIMITS).compile(&bomb(1_000, 20_000), None).unwrap_err();
    assert!(matches!(error, CompileError::Memory(_)), "{error}");
    let roomy = CompileLimits { child: ChildLimits { memory_bytes_max: 2 << 30, ..LIMITS.child }, ..LIMITS };
    let error = this(roomy).compile(&bomb(300, 5_000), None).unwrap_err();
    assert!(matches!(error, CompileError::CpuTime(3)), "{error}");
    let error = this(CompileLimits { s_max: 1, ..roomy }).compile(&bomb(300, 5_000), None).unwrap_err();
    assert!(matches!(error, CompileError::Time(1)), "{error}");
}

#[test]
fn what_a_child_compiles_is_what_this_process_would() {
    let folder = tempfile::tempdir().unwrap();
    let guests = GuestRuntime::new(folder.path(), Room::for_tasks(1), Compiler::Here).unwrap();
    let small = bomb(1, 1);
    let code = this(LIMITS).compile(&small, None).unwrap();
    assert!(code == Compiler::Here.compile(&guests.engine, &small, None).unwrap());
    let error = this(LIMITS).compile(b"\0asm\x0d\0\x01\0\x01\x50", None).unwrap_err();
    assert!(matches!(error, CompileError::Invalid(_)), "{error}");
}
