// Score jets of a CSV file with an exported model:   ./score_onnx tagger.onnx jets.csv > scores.csv
//
// The CSV file has a line for each particle: the number of its jet, then the columns of the model in their order
// (pt,deta,dphi,... in GeV, mm, rad); the particles of a jet follow each other; `nan` is a missing value.
// The output has a line for each jet: z, then probabilities and regressed columns if the model has them.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using Jet = std::vector<float>;  // particle after particle, each with all columns

std::vector<Jet> read_jets(const std::string& path, const std::string& columns) {
  std::ifstream file(path);
  std::string line, last;
  if (!std::getline(file, line)) throw std::runtime_error(path + ": cannot be read");
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (line != "jet," + columns) throw std::runtime_error(path + ": the columns are not jet," + columns);
  std::vector<Jet> jets;
  while (std::getline(file, line)) {
    std::stringstream cells(line);
    std::string jet, cell;
    std::getline(cells, jet, ',');
    if (jets.empty() || jet != last) jets.emplace_back();
    last = jet;
    while (std::getline(cells, cell, ',')) jets.back().push_back(std::stof(cell));
  }
  return jets;
}

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: score_onnx MODEL.onnx JETS.csv");
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "score_onnx");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::Session session(env, argv[1], options);
  Ort::AllocatorWithDefaultOptions allocator;
  const auto metadata = session.GetModelMetadata();
  const auto columns = metadata.LookupCustomMetadataMapAllocated("columns", allocator);
  if (!columns) throw std::runtime_error(std::string(argv[1]) + ": not a model of ssl-jets export");
  const std::string names = columns.get();
  const size_t width = std::count(names.begin(), names.end(), ',') + 1;

  const auto jets = read_jets(argv[2], names);
  if (jets.empty()) throw std::runtime_error(std::string(argv[2]) + ": no jets");
  size_t longest = 0;
  for (const auto& jet : jets) longest = std::max(longest, jet.size() / width);
  std::vector<float> particles(jets.size() * longest * width, 0.f), mask(jets.size() * longest, 0.f);
  for (size_t jet = 0; jet < jets.size(); ++jet) {
    std::copy(jets[jet].begin(), jets[jet].end(), particles.begin() + jet * longest * width);
    std::fill_n(mask.begin() + jet * longest, jets[jet].size() / width, 1.f);
  }

  const auto cpu = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const int64_t count = jets.size(), length = longest;
  const std::vector<int64_t> table{count, length, static_cast<int64_t>(width)}, flags{count, length};
  std::vector<Ort::Value> inputs;
  inputs.push_back(Ort::Value::CreateTensor<float>(cpu, particles.data(), particles.size(), table.data(), 3));
  inputs.push_back(Ort::Value::CreateTensor<float>(cpu, mask.data(), mask.size(), flags.data(), 2));
  const char* input_names[] = {"particles", "mask"};
  std::vector<const char*> outputs;
  std::vector<Ort::AllocatedStringPtr> kept;
  for (size_t index = 0; index < session.GetOutputCount(); ++index) {
    kept.push_back(session.GetOutputNameAllocated(index, allocator));
    const std::string name = kept.back().get();
    if (name == "z" || name == "probabilities" || name == "regressed") outputs.push_back(kept.back().get());
  }
  std::cout.precision(9);  // enough for every float
  const auto results = session.Run({}, input_names, inputs.data(), 2, outputs.data(), outputs.size());
  for (int64_t jet = 0; jet < count; ++jet)
    for (size_t output = 0; output < results.size(); ++output) {
      const int64_t size = results[output].GetTensorTypeAndShapeInfo().GetShape()[1];
      const float* values = results[output].GetTensorData<float>() + jet * size;
      for (int64_t i = 0; i < size; ++i) std::cout << (output || i ? "," : "") << values[i];
      if (output + 1 == results.size()) std::cout << '\n';
    }
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
