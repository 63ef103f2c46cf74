// Stands in for Apple's header where there is no Mac (tools/check-mac): as in Apple's published IOKitUser, IOPSKeys.h.
#ifndef STORYFARM_TOOLS_MAC_IOPSKEYS_H_
#define STORYFARM_TOOLS_MAC_IOPSKEYS_H_

#define kIOPMACPowerKey "AC Power"
#define kIOPMBatteryPowerKey "Battery Power"

#endif  // STORYFARM_TOOLS_MAC_IOPSKEYS_H_
