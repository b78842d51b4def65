//! Members on loopback with real TLS: who is let in, who is not, and that strangers at the port harm nobody.

#[path = "transport/dates.rs"]
mod dates;
#[path = "transport/hostile.rs"]
mod hostile;
#[path = "transport/joining.rs"]
mod joining;
#[path = "transport/member.rs"]
mod member;
#[path = "transport/stores.rs"]
mod stores;
#[path = "transport/talking.rs"]
mod talking;
