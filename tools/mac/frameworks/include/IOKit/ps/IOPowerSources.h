// Stands in for Apple's header where there is no Mac (tools/check-mac): as in Apple's published IOKitUser,
// IOPowerSources.h.
#ifndef STORYFARM_TOOLS_MAC_IOPOWERSOURCES_H_
#define STORYFARM_TOOLS_MAC_IOPOWERSOURCES_H_

#include <CoreFoundation/CoreFoundation.h>

#ifdef __cplusplus
extern "C" {
#endif

CFTypeRef IOPSCopyPowerSourcesInfo(void);
// Not to be released; one of IOPSKeys.h's kIOPM...Key.
CFStringRef IOPSGetProvidingPowerSourceType(CFTypeRef snapshot);

#ifdef __cplusplus
}
#endif

#endif  // STORYFARM_TOOLS_MAC_IOPOWERSOURCES_H_
