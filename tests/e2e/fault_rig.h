// What the tests of real faults share: farms whose engines render nothing, so that each picture is known and counted,
// and what must hold whatever happened.
#ifndef STORYFARM_TESTS_E2E_FAULT_RIG_H_
#define STORYFARM_TESTS_E2E_FAULT_RIG_H_

#include <map>
#include <set>
#include <string>

#include "tests/e2e/farm.h"

namespace storyfarm::e2e {

inline constexpr int kPanels = 24;

// Of random kills: --rounds of the program.
int Rounds();

FarmOptions NullEngines(int step_ms, int image_bytes = 0);

// The files of the story of kPanels from a farm that nothing befalls.
Files Reference(int seed, int image_bytes = 0);

// Panels whose result the farm has accepted.
std::set<int> Accepted(const nlohmann::json& status);
std::map<int, int> RendersByPanel(const Farm& farm);
// No panel was rendered more often than it was handed out, and where nothing was lost no more than once.
void ExpectNoWaste(Farm& farm, const std::string& job, bool nothing_was_lost);
void WaitForFrames(Farm& farm, const std::string& job, int frames);

}  // namespace storyfarm::e2e

#endif  // STORYFARM_TESTS_E2E_FAULT_RIG_H_
