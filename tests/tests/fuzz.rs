//! Every fuzz target for a moment: the examples, and some thousand damaged ones.

use eider_tests::fuzz::{TARGETS, run_briefly};

#[test]
fn every_target_briefly() {
    for target in TARGETS {
        run_briefly(target, 3000, 1).unwrap_or_else(|failure| panic!("{failure:#}"));
    }
}
