//! Every quick case of bad input, in one table.

use eider_tests::hostile::{Options, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_quick_case() {
    run(&Options::default())
        .await
        .unwrap_or_else(|failure| panic!("{failure:#}"));
}
