#include "runtime/kv_cache.h"

#include <gtest/gtest.h>

#include "base/memory_info.h"
#include "support/expect_error.h"

namespace crumb::runtime {
namespace {

using kernels::KvFormat;
using test::expect_error;

model::ModelConfig small() {
  model::ModelConfig c;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 64;
  c.max_position_embeddings = 1000;
  return c;
}

TEST(KvCache, BytesAreKnownBeforehand) {
  // 3 blocks, 2 heads, 128 tokens, 64 keys and 64 values each.
  const std::int64_t numbers = 3 * 2 * 128 * 128;
  const model::ModelConfig c = small();
  EXPECT_EQ(kv_cache_bytes(c, KvFormat::kF32, 100), numbers * 4);
  EXPECT_EQ(kv_cache_bytes(c, KvFormat::kF16, 100), numbers * 2);
  EXPECT_EQ(kv_cache_bytes(c, KvFormat::kInt8, 128), numbers + 3 * 2 * 128 * 8);  // two f32 scales
  EXPECT_EQ(kv_cache_bytes(c, KvFormat::kInt4, 65),
            numbers / 2 + 3 * 2 * 128 * 10);  // and two u8 zero points
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4})
    EXPECT_EQ(KvCache(c, format, 100).bytes(), kv_cache_bytes(c, format, 100));
}

TEST(KvCache, AppendsTruncatesAndKeepsPrefixes) {
  KvCache cache(small(), KvFormat::kF16, 8);
  const std::vector<std::int32_t> tokens = {1, 2, 3, 4, 5};
  cache.append(tokens);
  EXPECT_EQ(cache.length(), 5);
  expect_error(ErrorKind::kInvalidArgument, {"10 tokens", "opened for 8"}, [&] { cache.append(tokens); });
  EXPECT_EQ(cache.length(), 5) << "nothing half-done";

  const std::vector<std::int32_t> other = {1, 2, 9, 9}, longer = {1, 2, 7, 7, 7, 7}, foreign = {4};
  EXPECT_EQ(cache.reuse_prefix(other), 2);
  EXPECT_EQ(cache.length(), 2);
  cache.append(std::span(longer).subspan(2));
  EXPECT_EQ(cache.reuse_prefix(longer), 5) << "the last token is computed again";
  EXPECT_EQ(cache.reuse_prefix(foreign), 0);
  cache.append(tokens);
  cache.truncate(3);
  EXPECT_EQ(std::vector<std::int32_t>(cache.tokens().begin(), cache.tokens().end()),
            (std::vector<std::int32_t>{1, 2, 3}));
  expect_error(ErrorKind::kInvalidArgument, {"truncate to 4", "has 3"}, [&] { cache.truncate(4); });
  expect_error(ErrorKind::kInvalidArgument, {"truncate to -1"}, [&] { cache.truncate(-1); });
  expect_error(ErrorKind::kInvalidArgument, {"empty prompt"}, [&] { cache.reuse_prefix({}); });
}

TEST(KvCache, BlocksDoNotOverlap) {
  const KvCache cache(small(), KvFormat::kInt4, 100);
  const std::int64_t bytes = cache.bytes() / 3;
  for (std::int64_t i = 1; i < 3; ++i) EXPECT_EQ(cache.block(i).data - cache.block(i - 1).data, bytes);
  EXPECT_EQ(cache.block(0).capacity, 128);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(cache.block(2).data) % 64, 0u);
}

TEST(KvCache, WhatDoesNotFitIsRefusedWithTheNumbers) {
  model::ModelConfig c = small();
  expect_error(ErrorKind::kInvalidArgument, {"1001 tokens", "1 … 1000"},
               [&] { KvCache(c, KvFormat::kF16, 1001); });
  expect_error(ErrorKind::kInvalidArgument, {"0 tokens"}, [&] { KvCache(c, KvFormat::kF16, 0); });
  c.max_position_embeddings = std::int64_t{1} << 36;
  const std::int64_t before = resident_bytes();
  expect_error(ErrorKind::kOutOfMemory, {"key/value cache of 68719476736 tokens in f16", "available"},
               [&] { KvCache(c, KvFormat::kF16, c.max_position_embeddings); });
  EXPECT_LT(resident_bytes() - before, std::int64_t{64} << 20);
  c.head_dim = 2048;
  expect_error(ErrorKind::kUnsupported, {"2048", "1024"}, [&] { kv_cache_bytes(c, KvFormat::kF16, 100); });
}

}  // namespace
}  // namespace crumb::runtime
