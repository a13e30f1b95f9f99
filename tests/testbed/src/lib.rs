//! What the tests, the demo and the benches of robotosecret stand on: a real Kubernetes control plane, an emulated AWS
//! that can be told to misbehave, and canaries that show whether a value leaked.
//!
//! Everything runs as the invoking user, on loopback ports that the system picks, and ends with the process that started it,
//! however that one ends. What has to be built is built once a machine, into [`cache`]'s folder.
//!
//! This package knows nothing of the robotosecret package: it runs its binary, applies its files and watches from outside.

pub mod audit;
pub mod aws;
pub mod binaries;
pub mod cache;
pub mod canary;
pub mod chart;
pub mod control_plane;
pub mod controller;
pub mod docs;
pub mod door;
pub mod double;
pub mod emulator;
pub mod envase;
pub mod examples;
pub mod folder;
pub mod front;
pub mod http;
pub mod install;
pub mod interrupt;
pub mod moto;
pub mod node;
pub mod port;
pub mod process;
pub mod python;
pub mod roboto;
pub mod values;
pub mod vault;

pub use canary::Canary;
pub use control_plane::ControlPlane;
pub use controller::Controller;
pub use door::Door;
pub use emulator::Emulator;
pub use envase::Envase;
pub use folder::TempFolder;
pub use front::Front;
pub use moto::Moto;
pub use node::Node;
pub use process::Process;
pub use roboto::Roboto;
pub use vault::Vault;
