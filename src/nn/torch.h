// The precompiled header of the rooms that train: ATen and custom autograd functions, nothing else of torch
// (its nn, optim and data headers double the compile time, and crumb has its own).
#pragma once
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
