//! The thin shell round the library: parse, run, exit code.

use std::process::ExitCode;

/// The allocator: many small, short-lived allocations on two threads. Without huge pages
/// (`no_thp`): with them an idle server takes twice the memory, for pages that it hardly touches.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match countersign::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign: {error:#}");
            ExitCode::FAILURE
        }
    }
}
