//! openraft, and what adapts it; nothing outside this folder names it.

pub(crate) mod runtime;
