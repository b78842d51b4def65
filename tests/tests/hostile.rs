//! Every quick case of bad input, in one table.

use eider_tests::hostile::{Options, run};

/// What the main thread of the program `hostile` has; the test's own would be a quarter of it, too little unoptimised.
const STACK_BYTES: usize = 8 * 1024 * 1024;

#[test]
fn every_quick_case() {
    let cases = || {
        let runtime = tokio::runtime::Runtime::new().expect("the system gives threads");
        runtime.block_on(run(&Options::default()))
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let done = thread.spawn(cases).expect("the system gives a thread");
    match done.join() {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => panic!("{failure:#}"),
        Err(panicked) => std::panic::resume_unwind(panicked),
    }
}
