// Field numbers and enumerators of onnx.proto that crumb writes and reads.
#pragma once

namespace crumb::formats::onnx_schema {

namespace model {
inline constexpr int kIrVersion = 1, kProducerName = 2, kGraph = 7, kOpsetImport = 8;
}
namespace opset {
inline constexpr int kDomain = 1, kVersion = 2;
}
namespace graph {
inline constexpr int kNode = 1, kName = 2, kInitializer = 5, kInput = 11, kOutput = 12;
}
namespace node {
inline constexpr int kInput = 1, kOutput = 2, kName = 3, kOpType = 4, kAttribute = 5, kDomain = 7;
}
namespace attribute {
inline constexpr int kName = 1, kFloat = 2, kInt = 3, kInts = 8, kType = 20;
inline constexpr int kTypeFloat = 1, kTypeInt = 2, kTypeInts = 7;
}  // namespace attribute
namespace tensor {
inline constexpr int kDims = 1, kDataType = 2, kInt64Data = 7, kName = 8, kRawData = 9, kExternalData = 13,
                     kDataLocation = 14;
inline constexpr int kExternal = 1;  // a data_location
}  // namespace tensor
namespace entry {
inline constexpr int kKey = 1, kValue = 2;
}
namespace value_info {
inline constexpr int kName = 1, kType = 2;
}
namespace type {
inline constexpr int kTensor = 1, kElemType = 1, kShape = 2, kDim = 1, kDimValue = 1, kDimParam = 2;
}

}  // namespace crumb::formats::onnx_schema
