//! the simulation's model of the workflow. It is separate from the program that runs it, because the end-to-end suite
//! compares the model with the state machine.

pub mod workflow_model;
