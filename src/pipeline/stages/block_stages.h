// The stages that work on one block: each file of this folder hands a job to one method, and places what it
// found.
#pragma once
#include "methods/omniquant/block_training.h"
#include "pipeline/block_job.h"

namespace crumb::pipeline {

/// Moves the range of activations into weights; statistics as BlockJob::statistics().
void run_smoothquant(BlockJob& job);
/// Scales of the admitted sites, searched on X_q; clipping and codes too where no later stage chooses them.
void run_awq(BlockJob& job);
/// Trained transformation and clipping; codes.
void run_omniquant(BlockJob& job);
/// To nearest: fake-quant linears, from which Block-AP goes on with the very numbers; codes where ranges are
/// symmetric (absmax).
void run_rounding(BlockJob& job);
/// Codes of float linears by their groups' largest |w|; spec.grid is kSignedSym.
methods::LinearCodes round_by_absmax(const nn::DecoderBlock& block, const quant::AffineSpec& spec);
/// Column by column; sequential: each group of linears with inputs made by the quantized ones before it.
void run_gptq(BlockJob& job);
/// Trained rounding; codes.
void run_signround(BlockJob& job);
/// Trains all parameters, from `rounding`'s fake-quant linears or from the codes of another stage
/// (methods::start_from_codes).
void run_block_ap(BlockJob& job);

/// The recipe's section as the method takes it.
methods::omniquant::Settings omniquant_settings(const recipe::Recipe& recipe);

/// Throws Unsupported, with the reason, where a family's structure does not admit what the recipe transforms;
/// before anything is computed.
void check_structure(const recipe::Recipe& recipe, const model::ModelConfig& config);

}  // namespace crumb::pipeline
