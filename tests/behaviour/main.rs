//! What a user of robotosecret sees, on a real API server: one process, one control plane, a namespace and a controller of its own for each test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)] // A test fails by panicking.

mod absence;
mod admission;
mod api;
mod chart;
mod cli;
mod client;
mod clients;
mod confined;
mod conformance;
mod disk;
mod documents;
mod drift;
mod edge;
mod envase;
mod examples;
mod failure;
mod fan_out;
mod freshness;
mod gitops;
mod identity;
mod judgement;
mod leadership;
mod leaks;
mod lifecycle;
mod mirroring;
mod monitoring;
mod observability;
mod operating;
mod plugin;
mod policies;
mod provider;
mod push;
mod reading;
mod refusal;
mod restore;
mod roboto;
mod rollout;
mod support;
mod templates;
mod tenancy;
mod terminal;
mod vault;
mod web;
mod writing;
