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
      case FieldType::kList:
        other = nlohmann::json::array({"awq", "block_ap"});
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
  EXPECT_EQ(find_field("weights.bits")->range(), "2 | 3 | 4 | 6 | 8");
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
      {R"({"weights":{"bits":5}})", "weights.bits", "2 | 3 | 4 | 6 | 8"},
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
  EXPECT_NO_THROW(parse_recipe(R"({"recipe_version":2})", "x"));
  EXPECT_THAT(thrown([] { parse_recipe(R"({"recipe_version":3})", "x"); }).message,
              AllOf(HasSubstr("recipe_version"), HasSubstr("3"), HasSubstr("2")));
  EXPECT_EQ(thrown([] { parse_recipe(R"({"recipe_version":"1"})", "x"); }).kind, ErrorKind::kInvalidArgument);
}

// Version 1: `initialization`, and `enabled` in two sections instead of the list of stages.
TEST(RecipeVersion1, MigratesToTheSameRun) {
  const Recipe both = parse_recipe(
      R"({"recipe_version":1,"name":"old","initialization":{"method":"minmax","steps":7},"block_ap":{"epochs":3}})",
      "x");
  EXPECT_EQ(both.stages, (std::vector{Stage::kRounding, Stage::kBlockAp, Stage::kE2eQp}));
  EXPECT_EQ(both.rounding.method, InitMethod::kMinMax);
  EXPECT_EQ(both.rounding.steps, 7);
  EXPECT_EQ(both.block_ap.epochs, 3);
  EXPECT_EQ(both.name, "old");
  const auto stages = [](const std::string& sections) {
    return parse_recipe(R"({"recipe_version":1,)" + sections + "}", "x").stages;
  };
  EXPECT_EQ(stages(R"("block_ap":{"enabled":false},"e2e_qp":{"enabled":false})"),
            std::vector{Stage::kRounding});
  EXPECT_EQ(stages(R"("block_ap":{"enabled":false,"epochs":4})"),
            (std::vector{Stage::kRounding, Stage::kE2eQp}));
  EXPECT_EQ(stages(R"("e2e_qp":{"enabled":false},"block_ap":{"enabled":true})"),
            (std::vector{Stage::kRounding, Stage::kBlockAp}));
}

TEST(RecipeVersion1, KeepsItsErrors) {
  const auto message = [](const char* text) {
    return thrown([&] { parse_recipe(text, "old.json"); }).message;
  };
  EXPECT_THAT(message(R"({"recipe_version":1,"block_ap":{"enabled":1}})"),
              AllOf(HasSubstr("old.json"), HasSubstr("block_ap.enabled is 1"), HasSubstr("true | false")));
  EXPECT_THAT(message(R"({"recipe_version":1,"stages":["rounding"]})"),
              AllOf(HasSubstr("stages"), HasSubstr("\"recipe_version\": 2")));
  EXPECT_THAT(message(R"({"recipe_version":1,"initialization":{"step":3}})"),
              HasSubstr("did you mean 'steps'?"));
}

TEST(RecipeVersion2, SaysWhatBecameOfOldKeys) {
  const auto message = [](const char* text) {
    return thrown([&] { parse_recipe(text, "new.json"); }).message;
  };
  EXPECT_THAT(message(R"({"initialization":{"method":"minmax"}})"), HasSubstr("it is called 'rounding'"));
  EXPECT_THAT(message(R"({"e2e_qp":{"enabled":false}})"), HasSubstr("the list 'stages'"));
  Recipe r;
  EXPECT_THAT(thrown([&] { set_field(r, "initialization.steps=3"); }).message, HasSubstr("'rounding.steps'"));
  EXPECT_THAT(thrown([&] { set_field(r, "block_ap.enabled=false"); }).message, HasSubstr("'stages'"));
}

TEST(RecipeStages, AreKnownWordsEachOnce) {
  const auto message = [](const char* text) { return thrown([&] { parse_recipe(text, "x"); }).message; };
  EXPECT_THAT(message(R"({"stages":["gtpq"]})"),
              AllOf(HasSubstr("'gtpq'"), HasSubstr("did you mean 'gptq'?")));
  EXPECT_THAT(message(R"({"stages":["awq","awq"]})"), HasSubstr("'awq' twice"));
  EXPECT_THAT(message(R"({"stages":"awq"})"), HasSubstr("list of"));
  EXPECT_THAT(message(R"({"stages":[3]})"), HasSubstr("list of"));
  EXPECT_THAT(message(R"({"stage":["awq"]})"), HasSubstr("did you mean 'stages'?"));
}

// Every rule of docs/recipes.md, with the names of what contradicts itself; beside each, what is allowed.
TEST(RecipeStages, ThatContradictEachOtherAreRefusedByName) {
  const auto message = [](const std::string& stages, const std::vector<std::string>& more = {}) {
    std::vector<std::string> assignments = {"stages=" + stages};
    assignments.insert(assignments.end(), more.begin(), more.end());
    return thrown([&] { load_recipe("efficientqat-w4g64", assignments); }).message;
  };
  for (const char* allowed :
       {"rounding", "gptq", "awq", "signround", "omniquant", "awq,gptq", "awq,signround,e2e_qp",
        "awq,rounding", "gptq,block_ap", "awq,block_ap,e2e_qp", "omniquant,e2e_qp", "omniquant,block_ap",
        "rounding,block_ap,e2e_qp", "awq,omniquant"})
    EXPECT_EQ(message(allowed), "") << allowed;
  EXPECT_THAT(message("rounding,gptq"), AllOf(HasSubstr("'rounding' and 'gptq'"), HasSubstr("keep one")));
  EXPECT_THAT(message("omniquant,signround"), HasSubstr("'omniquant' and 'signround'"));
  EXPECT_THAT(message("gptq,awq"),
              AllOf(HasSubstr("'awq'"), HasSubstr("'gptq' has chosen"), HasSubstr("before")));
  EXPECT_THAT(message("rounding,block_ap,awq"),
              AllOf(HasSubstr("'awq'"), HasSubstr("'rounding' has chosen")));
  EXPECT_THAT(message("awq,block_ap,rounding"), AllOf(HasSubstr("'rounding'"), HasSubstr("'block_ap'")));
  EXPECT_THAT(message("block_ap"), AllOf(HasSubstr("'block_ap'"), HasSubstr("put rounding")));
  EXPECT_THAT(message("e2e_qp,gptq"), HasSubstr("'e2e_qp'"));
  EXPECT_THAT(message("gptq,e2e_qp,block_ap"), AllOf(HasSubstr("'block_ap'"), HasSubstr("after 'e2e_qp'")));
  EXPECT_THAT(message("smoothquant", {"activations.bits=8"}), HasSubstr("chooses codes"));
  EXPECT_THAT(message(""), HasSubstr("stages is empty"));
}

TEST(RecipeStages, ActivationBitsNeedAStageThatPreparesTheModel) {
  const auto message = [](const std::vector<std::string>& assignments) {
    return thrown([&] { load_recipe("rtn-w4g64", assignments); }).message;
  };
  EXPECT_THAT(
      message({"activations.bits=4"}),
      AllOf(HasSubstr("activations.bits 4"), HasSubstr("smoothquant"), HasSubstr("activations.allow_plain")));
  EXPECT_THAT(message({"activations.kv_bits=4"}), HasSubstr("activations.kv_bits 4"));
  EXPECT_EQ(message({"activations.bits=4", "activations.allow_plain=true"}), "");
  EXPECT_EQ(message({"activations.bits=4", "stages=smoothquant,rounding"}), "");
  EXPECT_EQ(message({"activations.bits=4", "activations.kv_bits=4", "stages=omniquant"}), "");
  EXPECT_THAT(message({"stages=smoothquant,rounding"}),
              AllOf(HasSubstr("'smoothquant'"), HasSubstr("activations.bits is 16")));
}

TEST(RecipeStages, StaticGridsWantBitsAndStagesThatDoNotTrain) {
  const auto message = [](const std::string& recipe, const std::vector<std::string>& assignments) {
    return thrown([&] { load_recipe(recipe, assignments); }).message;
  };
  EXPECT_EQ(message("smoothquant-w8a8", {"activations.granularity=per_channel"}), "");
  EXPECT_EQ(message("gptq-w4g64", {"activations.bits=8", "activations.allow_plain=true",
                                   "activations.granularity=per_tensor"}),
            "");
  EXPECT_THAT(message("gptq-w4g64", {"activations.granularity=per_tensor"}),
              AllOf(HasSubstr("per_tensor"), HasSubstr("activations.bits is 16")));
  for (const char* recipe : {"omniquant-w4a4", "signround-w4g64", "efficientqat-w4g64"})
    EXPECT_THAT(message(recipe, {"activations.bits=8", "activations.allow_plain=true",
                                 "activations.granularity=per_tensor"}),
                AllOf(HasSubstr("trains through"), HasSubstr("per_token")))
        << recipe;
  EXPECT_TRUE(load_recipe("rtn-w4g64", {"activations.bits=8", "activations.allow_plain=true",
                                        "activations.granularity=per_tensor"})
                  .reads_activations());
  EXPECT_THAT(message("smoothquant-w8a8", {"activations.granularity=per_row"}), HasSubstr("per_channel"));
}

TEST(RecipeStages, HaveParametersThatAgree) {
  const auto message = [](const std::string& recipe, const std::vector<std::string>& assignments) {
    return thrown([&] { load_recipe(recipe, assignments); }).message;
  };
  EXPECT_THAT(message("omniquant-w4a4", {"omniquant.lwc=false", "omniquant.let=false"}),
              AllOf(HasSubstr("omniquant.lwc"), HasSubstr("omniquant.let")));
  EXPECT_THAT(message("omniquant-w2g64", {"omniquant.batch=3"}),
              AllOf(HasSubstr("calibration.samples 64"), HasSubstr("omniquant.batch 3")));
  EXPECT_THAT(message("signround-w2g64", {"signround.batch=65"}),
              AllOf(HasSubstr("signround.batch 65"), HasSubstr("calibration.samples 64")));
  EXPECT_THAT(message("gptq-w2g64", {"gptq.static_groups=false"}),
              AllOf(HasSubstr("gptq.act_order"), HasSubstr("gptq.static_groups")));
  EXPECT_EQ(message("gptq-w2g64", {"gptq.static_groups=false", "gptq.act_order=false"}), "");
  EXPECT_THAT(message("rtn-w2g64", {"rounding.method=absmax"}),
              AllOf(HasSubstr("rounding.method absmax"), HasSubstr("weights.grid")));
  EXPECT_EQ(message("rtn-w2g64", {"rounding.method=absmax", "weights.grid=signed-sym"}), "");
  EXPECT_THAT(message("awq-w2g64", {"awq.clip_max_shrink=0.02"}), HasSubstr("awq.clip_max_shrink"));
}

TEST(RecipeStages, SayWhatTheRunNeeds) {
  const Recipe rounding = load_recipe("rtn-w2g64"), gptq = load_recipe("gptq-w2g64"),
               smooth = load_recipe("smoothquant-w8a8");
  EXPECT_FALSE(rounding.reads_activations());
  EXPECT_TRUE(load_recipe("rtn-w2g64", {"rounding.method=clip_search_activation"}).reads_activations());
  EXPECT_TRUE(gptq.reads_activations());
  EXPECT_FALSE(gptq.transforms());
  EXPECT_TRUE(smooth.transforms());
  EXPECT_FALSE(load_recipe("omniquant-w2g64").transforms());
  EXPECT_TRUE(load_recipe("omniquant-w4a4").transforms());
  EXPECT_EQ(smooth.chooser(), Stage::kRounding);
  EXPECT_EQ(load_recipe("awq-w2g64").chooser(), Stage::kAwq);
  EXPECT_EQ(load_recipe("awq-w2g64", {"stages=awq,gptq,block_ap"}).chooser(), Stage::kGptq);
  EXPECT_EQ(load_recipe("awq-w2g64", {"stages=awq,gptq,block_ap"}).last_block_stage(), Stage::kBlockAp);
  EXPECT_EQ((Weights{6, -1, quant::Grid::kSignedSym}.stored_spec()),
            (quant::AffineSpec{8, -1, quant::Grid::kAsym}));
  EXPECT_EQ((Weights{4, 32, quant::Grid::kSignedSym}.stored_spec()),
            (quant::AffineSpec{4, 32, quant::Grid::kSignedSym}));
}

TEST(RecipeSet, AssignsNumbersWordsAndBooleans) {
  Recipe r;
  set_field(r, "block_ap.weight_lr=1e-5");
  set_field(r, "e2e_qp.loss=ce");
  set_field(r, "stages=gptq,block_ap");
  set_field(r, "calibration.corpus=a=b.txt");
  EXPECT_EQ(r.block_ap.weight_lr, 1e-5);
  EXPECT_EQ(r.e2e_qp.loss, E2eLoss::kCrossEntropy);
  EXPECT_EQ(r.stages, (std::vector{Stage::kGptq, Stage::kBlockAp}));
  set_field(r, R"(stages=["awq"])");
  EXPECT_EQ(r.stages, std::vector{Stage::kAwq});
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
  EXPECT_EQ(message_of({"stages=rounding,e2e_qp", "block_ap.batch=3"}), "")
      << "a stage that is not there has no say";
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
  EXPECT_THAT(names, ::testing::IsSupersetOf({"efficientqat-w2g64",
                                              "efficientqat-w3g64",
                                              "efficientqat-w4g64",
                                              "efficientqat-w2g64-paper",
                                              "rtn-w2g64",
                                              "rtn-w3g64",
                                              "rtn-w4g64",
                                              "gptq-w2g64",
                                              "gptq-w3g64",
                                              "gptq-w4g64",
                                              "awq-w2g64",
                                              "awq-w3g64",
                                              "awq-w4g64",
                                              "signround-w2g64",
                                              "signround-w3g64",
                                              "signround-w4g64",
                                              "omniquant-w2g64",
                                              "omniquant-w3g64",
                                              "omniquant-w4g64",
                                              "omniquant-w6a6",
                                              "omniquant-w4a4",
                                              "smoothquant-w8a8",
                                              "smoothquant-w8a8-static"}));
  for (const std::string& name : names) {
    const Recipe r = load_recipe(name);
    EXPECT_EQ(r.name, name);
    EXPECT_FALSE(r.card.description.empty()) << name;
    EXPECT_FALSE(r.card.paper.empty()) << name;
    EXPECT_FALSE(r.card.cost.empty()) << name;
    std::ifstream file(std::string(CRUMB_SOURCE_DIR) + "/recipes/" + name + ".json");
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    EXPECT_EQ(built_in_text(name), text) << "the program was built from another " << name << ".json";
  }
}

// arXiv:2407.11062 §4 and its scripts for Llama-2-7B w2g64.
TEST(BuiltInRecipes, ThePaperRecipeHasTheAuthorsNumbers) {
  const Recipe r = load_recipe("efficientqat-w2g64-paper");
  EXPECT_EQ(r.rounding.method, InitMethod::kMinMax);
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
