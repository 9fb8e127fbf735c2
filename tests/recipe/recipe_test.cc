#include "recipe/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "recipe/schema.h"
#include "support/temp_dir.h"

namespace crumb::recipe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Kind and message of what `action` throws; "" when it throws nothing.
struct Thrown {
  ErrorKind kind = ErrorKind::kInterrupted;
  std::string message;
};
template <class Action>
Thrown thrown(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  return {};
}

TEST(Recipe, AnEmptyObjectKeepsEveryDefault) {
  EXPECT_EQ(behavior_json(parse_recipe("{}", "t")), behavior_json(Recipe{}));
  // Control: one field away from the default is seen.
  EXPECT_NE(behavior_json(parse_recipe(R"({"block_ap":{"epochs":3}})", "t")), behavior_json(Recipe{}));
}

TEST(Recipe, PrintsAndParsesBackToTheLastBit) {
  Recipe r;
  r.name = "mine";
  r.card.expects = "say \"nothing\" \n yet";
  r.weights = {3, -1, quant::Grid::kSignedSym};
  r.block_ap.weight_lr = 0.1 + 0.2;
  r.block_ap.quant_lr = 1.0 / 3.0 * 1e-3;
  r.calibration.seed = 9007199254740991u;
  r.output.shard_bytes = 123456789012;
  r.output.head_bits = 4;
  const Recipe back = parse_recipe(to_json(r).dump(), "t");
  EXPECT_EQ(to_json(back).dump(), to_json(r).dump());
  EXPECT_EQ(back.block_ap.weight_lr, r.block_ap.weight_lr);
  EXPECT_EQ(back.block_ap.quant_lr, r.block_ap.quant_lr);
  EXPECT_EQ(back.calibration.seed, r.calibration.seed);
  EXPECT_EQ(back.weights.grid, quant::Grid::kSignedSym);
}

// Every field must reach its own member: a copy-and-paste slip in the schema would print one member and set
// another.
TEST(RecipeSchema, EachFieldSetsWhatItGetsAndNothingElse) {
  for (const Field& field : fields()) {
    const Recipe before;
    nlohmann::json other;
    switch (field.type) {
      case FieldType::kBoolean:
        other = !field.get(before).get<bool>();
        break;
      case FieldType::kText:
        other = "another";
        break;
      case FieldType::kChoice:
        other = field.choices.front() == field.get(before).get<std::string>() ? field.choices.back()
                                                                              : field.choices.front();
        break;
      case FieldType::kInteger:
        other = !field.choices.empty() ? nlohmann::json(4)
                                       : nlohmann::json(field.get(before).get<std::int64_t>() + 1);
        break;
      case FieldType::kNumber:
        other = field.get(before).get<double>() == 0.5 ? 0.25 : 0.5;
        break;
    }
    if (field.path == "block_ap.min_lr_factor") other = 7.5;
    Recipe after;
    assign(after, field, other, "t");
    EXPECT_EQ(field.get(after), other) << field.path;
    for (const Field& neighbor : fields()) {
      if (neighbor.path == field.path) continue;
      EXPECT_EQ(neighbor.get(after), neighbor.get(before)) << field.path << " also sets " << neighbor.path;
    }
  }
}

TEST(RecipeSchema, HasUniqueDocumentedPathsWhoseDefaultsAreInRange) {
  std::set<std::string> seen;
  Recipe r;
  for (const Field& field : fields()) {
    EXPECT_TRUE(seen.insert(field.path).second) << field.path;
    EXPECT_FALSE(field.doc.empty()) << field.path;
    EXPECT_NO_THROW(assign(r, field, field.get(Recipe{}), "t")) << field.path;
    EXPECT_EQ(find_field(field.path), &field);
  }
  EXPECT_EQ(find_field("weights.bitz"), nullptr);
  EXPECT_TRUE(find_field("performance.threads")->is_performance());
  EXPECT_FALSE(find_field("e2e_qp.lr")->is_performance());
  EXPECT_EQ(find_field("weights.bits")->range(), "2 | 3 | 4 | 8");
}

TEST(Recipe, NamesTheNearestKeyForAnUnknownOne) {
  const auto [kind, message] = thrown([] { parse_recipe(R"({"weights":{"group-size":64}})", "my.json"); });
  EXPECT_EQ(kind, ErrorKind::kInvalidArgument);
  EXPECT_THAT(message, AllOf(HasSubstr("my.json"), HasSubstr("'group-size'"),
                             HasSubstr("did you mean 'group_size'?")));
  EXPECT_THAT(thrown([] { parse_recipe(R"({"block-ap":{}})", "my.json"); }).message,
              HasSubstr("did you mean 'block_ap'?"));
}

TEST(Recipe, RejectsWrongTypesAndRangesNamingPathAndBounds) {
  const char* bad[][3] = {
      {R"({"weights":{"bits":5}})", "weights.bits", "2 | 3 | 4 | 8"},
      {R"({"weights":{"bits":"2"}})", "weights.bits", "\"2\""},
      {R"({"block_ap":{"epochs":1.5}})", "block_ap.epochs", "1.5"},
      {R"({"block_ap":{"epochs":0}})", "block_ap.epochs", "1 to "},
      {R"({"block_ap":{"weight_lr":-1e-4}})", "block_ap.weight_lr", "0 to 1"},
      {R"({"block_ap":{"train_norms":1}})", "block_ap.train_norms", "true | false"},
      {R"({"e2e_qp":{"loss":"mse"}})", "e2e_qp.loss", "ce | kl"},
      {R"({"calibration":{"seed":-1}})", "calibration.seed", "-1"},
      {R"({"weights":[]})", "weights", "object"},
      {R"([])", "array", "object"},
  };
  for (const auto& [text, first, second] : bad) {
    const auto [kind, message] = thrown([&] { parse_recipe(text, "my.json"); });
    EXPECT_EQ(kind, ErrorKind::kInvalidArgument) << text;
    EXPECT_THAT(message, AllOf(HasSubstr(first), HasSubstr(second))) << text;
  }
  EXPECT_EQ(parse_recipe(R"({"block_ap":{"epochs":4e0}})", "t").block_ap.epochs, 4)
      << "a whole number may be written as 4e0";
}

TEST(Recipe, RejectsTextThatIsNotJsonAndDuplicateKeys) {
  EXPECT_EQ(thrown([] { parse_recipe("{\"weights\": {", "x"); }).kind, ErrorKind::kCorrupt);
  EXPECT_EQ(thrown([] { parse_recipe("", "x"); }).kind, ErrorKind::kCorrupt);
  const auto [kind, message] = thrown([] { parse_recipe(R"({"weights":{"bits":2,"bits":3}})", "x"); });
  EXPECT_EQ(kind, ErrorKind::kCorrupt);
  EXPECT_THAT(message, HasSubstr("'bits'"));
  // Control: the same key in two objects is no duplicate.
  EXPECT_NO_THROW(parse_recipe(R"({"calibration":{"tokens":64},"e2e_qp":{"tokens":64}})", "x"));
}

TEST(Recipe, RefusesANewerVersion) {
  EXPECT_NO_THROW(parse_recipe(R"({"recipe_version":1})", "x"));
  EXPECT_THAT(thrown([] { parse_recipe(R"({"recipe_version":2})", "x"); }).message,
              AllOf(HasSubstr("recipe_version"), HasSubstr("2"), HasSubstr("1")));
  EXPECT_EQ(thrown([] { parse_recipe(R"({"recipe_version":"1"})", "x"); }).kind, ErrorKind::kInvalidArgument);
}

TEST(RecipeSet, AssignsNumbersWordsAndBooleans) {
  Recipe r;
  set_field(r, "block_ap.weight_lr=1e-5");
  set_field(r, "e2e_qp.loss=ce");
  set_field(r, "e2e_qp.enabled=false");
  set_field(r, "calibration.corpus=a=b.txt");
  EXPECT_EQ(r.block_ap.weight_lr, 1e-5);
  EXPECT_EQ(r.e2e_qp.loss, E2eLoss::kCrossEntropy);
  EXPECT_FALSE(r.e2e_qp.enabled);
  EXPECT_EQ(r.calibration.corpus, "a=b.txt");
}

TEST(RecipeSet, SaysWhatItWouldUnderstand) {
  Recipe r;
  EXPECT_THAT(thrown([&] { set_field(r, "bits=3"); }).message, HasSubstr("weights.bits"));
  EXPECT_THAT(thrown([&] { set_field(r, "block_ap.epoch=3"); }).message,
              HasSubstr("did you mean 'block_ap.epochs'"));
  EXPECT_THAT(thrown([&] { set_field(r, "tokens=3"); }).message,
              AllOf(HasSubstr("calibration.tokens"), HasSubstr("e2e_qp.tokens")));
  EXPECT_THAT(thrown([&] { set_field(r, "block_ap.epochs"); }).message, HasSubstr("path=value"));
  EXPECT_THAT(thrown([&] { set_field(r, "block_ap.epochs=many"); }).message, HasSubstr("\"many\""));
  EXPECT_EQ(behavior_json(r), behavior_json(Recipe{})) << "a refused assignment must change nothing";
}

TEST(Recipe, ChecksThatFieldsAgree) {
  const auto message_of = [](const std::vector<std::string>& assignments) {
    return thrown([&] { load_recipe("efficientqat-w2g64", assignments); }).message;
  };
  EXPECT_EQ(message_of({}), "");
  EXPECT_THAT(message_of({"block_ap.batch=3"}),
              AllOf(HasSubstr("calibration.samples 64"), HasSubstr("block_ap.batch 3")));
  EXPECT_THAT(message_of({"calibration.validation_samples=3"}),
              AllOf(HasSubstr("validation_samples 3"), HasSubstr("batch 2")));
  EXPECT_THAT(message_of({"weights.group_size=0"}), HasSubstr("group_size"));
  EXPECT_THAT(message_of({"e2e_qp.steps=0", "e2e_qp.accumulation=5"}),
              AllOf(HasSubstr("samples 24"), HasSubstr("accumulation 5")));
  EXPECT_EQ(message_of({"block_ap.enabled=false", "block_ap.batch=3"}), "")
      << "a stage that is off has no say";
}

TEST(Recipe, BehaviorLeavesOutSpeedAndWords) {
  const Recipe plain = load_recipe("efficientqat-w2g64");
  const Recipe threads = load_recipe("efficientqat-w2g64", {"performance.threads=7", "card.cost=an hour"});
  const Recipe rate = load_recipe("efficientqat-w2g64", {"e2e_qp.lr=1e-6"});
  EXPECT_EQ(behavior_json(plain).dump(), behavior_json(threads).dump());
  EXPECT_NE(behavior_json(plain).dump(), behavior_json(rate).dump());
  EXPECT_NE(to_json(plain).dump(), to_json(threads).dump());
}

TEST(BuiltInRecipes, AllLoadAndTheDefaultComesFirst) {
  const std::vector<std::string> names = built_in_names();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.front(), kDefaultRecipe);
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"efficientqat-w2g64", "efficientqat-w3g64", "efficientqat-w4g64",
                                       "efficientqat-w2g64-paper", "rtn-w2g64"}));
  for (const std::string& name : names) {
    const Recipe r = load_recipe(name);
    EXPECT_EQ(r.name, name);
    EXPECT_FALSE(r.card.description.empty()) << name;
    std::ifstream file(std::string(CRUMB_SOURCE_DIR) + "/recipes/" + name + ".json");
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    EXPECT_EQ(built_in_text(name), text) << "the program was built from another " << name << ".json";
  }
}

// arXiv:2407.11062 §4 and its scripts for Llama-2-7B w2g64.
TEST(BuiltInRecipes, ThePaperRecipeHasTheAuthorsNumbers) {
  const Recipe r = load_recipe("efficientqat-w2g64-paper");
  EXPECT_EQ(r.initialization.method, InitMethod::kMinMax);
  EXPECT_EQ(r.block_ap.steps(r.calibration), 4096);
  EXPECT_EQ(r.block_ap.quant_lr, 1e-4);
  EXPECT_EQ(r.block_ap.weight_lr, 2e-5);
  EXPECT_EQ(r.e2e_qp.resolved_steps(), 128);
  EXPECT_EQ(r.e2e_qp.loss, E2eLoss::kCrossEntropy);
  EXPECT_EQ(r.e2e_qp.lr, 2e-5);
}

TEST(LoadRecipe, ReadsAFileAndNamesItAfterIt) {
  const test::TempDir folder;
  std::ofstream(folder / "seven.json") << R"({"block_ap":{"epochs":7}})";
  const Recipe r = load_recipe((folder / "seven.json").string(), {"weights.bits=3"});
  EXPECT_EQ(r.block_ap.epochs, 7);
  EXPECT_EQ(r.weights.bits, 3);
  EXPECT_EQ(r.name, "seven");
}

TEST(LoadRecipe, NamesTheNearestBuiltIn) {
  const auto [kind, message] = thrown([] { load_recipe("eficientqat-w2g64"); });
  EXPECT_EQ(kind, ErrorKind::kNotFound);
  EXPECT_THAT(message, HasSubstr("did you mean 'efficientqat-w2g64'?"));
  EXPECT_EQ(thrown([] { built_in_text("nope"); }).kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace crumb::recipe
