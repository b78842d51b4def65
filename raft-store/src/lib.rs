//! A small replicated store for what a cluster must agree on; knows nothing of XMPP. See `DESIGN.md`.
