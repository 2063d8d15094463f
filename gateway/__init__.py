"""The service users meet: checks what comes in against the live signatures and forwards it in its
own protocol."""
