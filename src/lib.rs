//! `RobotoSecret` mirrors secrets from where they live (AWS Secrets Manager, SSM Parameter Store, Vault and others) into native Kubernetes Secrets:
//! a [`RobotoSecret`](api::RobotoSecret) names references, the controller plans and reads them through a [`provider`], renders the keys ([`render`]),
//! mirrors them into the Secret and writes back what happened ([`controller`]). A value lives only in [`sensitive::Sensitive`].

pub mod api;
pub mod apiserver;
pub mod controller;
pub mod limit;
pub mod provider;
pub mod proxy;
pub mod reader;
pub mod render;
pub mod secrets;
pub mod sensitive;
pub mod telemetry;

pub use secrets::Secrets;
