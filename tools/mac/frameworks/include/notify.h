// Stands in for Apple's header where there is no Mac (tools/check-mac): as in Apple's published Libnotify, notify.h. The
// functions themselves are in libSystem.
#ifndef STORYFARM_TOOLS_MAC_NOTIFY_H_
#define STORYFARM_TOOLS_MAC_NOTIFY_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NOTIFY_STATUS_OK 0
uint32_t notify_register_check(const char* name, int* token);
uint32_t notify_get_state(int token, uint64_t* state);
uint32_t notify_cancel(int token);

#ifdef __cplusplus
}
#endif

#endif  // STORYFARM_TOOLS_MAC_NOTIFY_H_
